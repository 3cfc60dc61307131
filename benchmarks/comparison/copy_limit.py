"""The same-traffic copy limit: how fast this machine moves the rows when there is nothing else to do."""

import json
import os

from comparison import processes
from comparison.contenders import build
from comparison.processes import Failed

SECONDS = 300
BYTES_OF_REGIONS = 600 << 20  # of one process: far more than caches hold


class CopyLimit:
    """Measures on demand, once for each row size and number of processes; keeps the faster kind of pages."""

    def __init__(self, benchmarks, build_root, rounds):
        self.reason = ""
        self.results = {}  # "row_bytes,processes" -> {"small": ..., "huge": ...}, as the program wrote them
        self._folder = build_root / "copy_limit"
        self._rounds = rounds
        try:
            build(benchmarks / "copy_limit", self._folder)
        except Failed as failure:
            self.reason = str(failure)

    def gb_per_s(self, shape, direction, fan_out):
        """The limit for rows that go to (or come from) fan_out ranks on average; None if it could not be measured."""
        if self.reason:
            return None
        pages = self._measured(shape)
        speeds = [interpolate(result[direction], fan_out) for result in pages.values()]
        return max(speeds, default=None)

    def _measured(self, shape):
        count = min(shape.ranks, len(os.sched_getaffinity(0)))
        key = f"{shape.row_bytes},{count}"
        if key not in self.results:
            self.results[key] = {}
            for pages in ("small", "huge"):
                try:
                    self.results[key][pages] = self._run(shape.row_bytes, count, pages)
                except Failed as failure:
                    if pages == "small":
                        self.reason = str(failure)
        return self.results[key]

    def _run(self, row_bytes, count, pages):
        json_file = self._folder / "result.json"
        rows = max(64, BYTES_OF_REGIONS // 9 // row_bytes)
        processes.run([str(self._folder / "copy_limit"), "--processes", str(count), "--row-bytes", str(row_bytes),
                       "--rows", str(rows), "--rounds", str(self._rounds), "--pages", pages, "--json", str(json_file)],
                      SECONDS)
        return json.loads(json_file.read_text())


def interpolate(table, fan_out):
    """GB/s at a fan-out between those measured. Times of a row add up, so times are interpolated, not speeds."""
    times = sorted((int(count), int(count) / entry["gb_per_s"]) for count, entry in table.items())
    if fan_out >= times[-1][0]:
        return times[-1][0] / times[-1][1]
    for (low, low_time), (high, high_time) in zip(times, times[1:]):
        if fan_out <= high:
            share = max(0.0, (fan_out - low) / (high - low))
            return max(fan_out, low) / (low_time + share * (high_time - low_time))
    raise AssertionError("the table is sorted and fan_out lies inside it")
