"""Rounds of interleaved runs, and what follows from them."""

import statistics
import tempfile
import pathlib

from comparison import shapes
from comparison.processes import Failed, MemoryWatch

PHASES = ("dispatch", "combine")


def interleave(shape, contenders, rounds, iterations, say):
    """Runs A B C, A B C, ... Gives ({column: [result of each round]}, {column: reason}).

    A result is {"dispatch": {...}, "combine": {...}}. Who fails once is left out from then on.
    """
    runs, failures = {}, {}
    for contender in contenders:
        if contender.reason:
            failures.update(dict.fromkeys(contender.columns, contender.reason))
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for contender in contenders:
                if any(column in failures for column in contender.columns):
                    continue
                say(f"round {number + 1} of {rounds}: {contender.columns[0]}")
                try:
                    result = contender.measure(shape, iterations, pathlib.Path(folder))
                except (Failed, ValueError) as failure:
                    failures.update(dict.fromkeys(contender.columns, str(failure)))
                    continue
                for column, phases in contender.columns_of(result).items():
                    runs.setdefault(column, []).append(phases)
    return {column: results for column, results in runs.items() if column not in failures}, failures


def median_us(results, phase):
    return statistics.median(result[phase]["p50_us"] for result in results)


def ratio(peer, own, phase):
    """How many times faster `own` is: the median over rounds of the ratio within a round."""
    return statistics.median(theirs[phase]["p50_us"] / ours[phase]["p50_us"] for theirs, ours in zip(peer, own))


def summarise(runs, phases, own_column):
    """The columns of a report. own_column: from a column to that of crossdock which it is compared with."""
    columns = {}
    for column, results in runs.items():
        own = runs.get(own_column(column))
        columns[column] = {"rounds": results}
        for phase in phases:
            payload = results[0][phase]["bytes"]
            time = median_us(results, phase)
            columns[column][phase] = {"p50_us": time, "bytes": payload, "gb_per_s": payload / time / 1e3}
            if own and not column.startswith("crossdock"):
                columns[column][phase]["crossdock_faster"] = ratio(results, own, phase)
    return columns


def summary(shape, runs, failures, limit):
    """All that is reported of one shape."""
    columns = summarise(runs, PHASES, lambda column: "crossdock")
    report = {"shape": vars(shape), "title": shape.title, "columns": columns, "missing": failures}
    add_limit(shape, report, limit)
    report["bars"] = bars_of(shape, columns)
    return report


def add_limit(shape, report, limit):
    report["copy_limit"] = {}
    for phase in PHASES:
        for column in report["columns"].values():
            fan_out = column[phase]["bytes"] / (shape.ranks * shape.tokens * shape.row_bytes)
            speed = limit.gb_per_s(shape, phase, fan_out)
            if speed is None:
                continue
            report["copy_limit"][phase] = {"fan_out": fan_out, "gb_per_s": speed}
            column[phase]["fraction_of_limit"] = column[phase]["gb_per_s"] / speed


def bars_of(shape, columns):
    """Each bar with what was reached; passed is None where a peer or crossdock is missing."""
    bars = shapes.BARS.get(shape)
    if bars is None:
        return []
    wanted = [("Open MPI", "dispatch", bars.dispatch), ("Open MPI one-sided", "dispatch", bars.dispatch_one_sided),
              ("Open MPI", "combine", bars.combine)]
    result = []
    for column, phase, least in wanted:
        reached = columns.get(column, {}).get(phase, {}).get("crossdock_faster")
        result.append({"against": column, "phase": phase, "least": least, "reached": reached,
                       "passed": None if reached is None else reached >= least})
    return result


def growth(crossdock, rounds, iterations, say):
    """How much longer twice the tokens take."""
    runs = {shape: [] for shape in shapes.GROWTH_SHAPES}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for shape in shapes.GROWTH_SHAPES:
                say(f"growth, round {number + 1} of {rounds}: T={shape.tokens}")
                runs[shape].append(crossdock.measure(shape, iterations, pathlib.Path(folder))["phases"])
    small, large = (runs[shape] for shape in shapes.GROWTH_SHAPES)
    result = {"title": f"{shapes.GROWTH_SHAPES[1].title} against T={shapes.GROWTH_SHAPES[0].tokens}"}
    for phase in PHASES:
        result[phase] = {"times": ratio(large, small, phase), "most": shapes.MOST_GROWTH}
        result[phase]["passed"] = result[phase]["times"] <= shapes.MOST_GROWTH
    return result


def memory(crossdock, iterations, say):
    """Resident memory of all ranks against inputs, received rows and outputs, as crossdock itself counts them."""
    shape = shapes.GROWTH_SHAPES[0]
    watch = MemoryWatch()
    say("memory")
    with tempfile.TemporaryDirectory() as folder:
        result = crossdock.measure(shape, iterations, pathlib.Path(folder), watch)
    counted = result.get("memory", {})
    tensors = sum(counted.get(f"{name}_bytes", 0) for name in ("inputs", "received", "outputs"))
    if tensors == 0:
        raise Failed("crossdock did not say how large its tensors are")
    resident = counted.get("pss_bytes") or watch.peak_bytes
    return {"title": shape.title, "pss_bytes": resident, "watched_peak_bytes": watch.peak_bytes,
            "tensor_bytes": tensors, "times": resident / tensors, "most": shapes.MOST_MEMORY,
            "passed": resident / tensors <= shapes.MOST_MEMORY}


def copying(report):
    """The share of the cores' time that dispatch spends copying at 8 ranks."""
    results = report["columns"].get("crossdock", {}).get("rounds", [])
    shares = [result["dispatch"]["copy_share"] for result in results if result["dispatch"].get("copy_share")]
    if not shares or report["shape"]["ranks"] != 8:
        return None
    share = statistics.median(shares)
    return {"share": share, "least": shapes.LEAST_COPYING, "passed": share >= shapes.LEAST_COPYING}
