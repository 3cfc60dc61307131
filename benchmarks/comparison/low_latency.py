"""The pair for decoding: what is compared, at which shapes, and the bars."""

from comparison import measurement
from comparison.contenders import MPIS, Crossdock, MpiPeer
from comparison.shapes import Shape

PHASES = ("dispatch", "combine", "round_trip")

# The largest share of Open MPI's round trip that crossdock's may take.
BARS = {
    Shape(2, 1, 7168, 8, 64): 0.70,
    Shape(2, 8, 7168, 8, 64): 0.62,
    Shape(2, 128, 7168, 8, 64): 0.62,
    Shape(8, 1, 7168, 8, 64): 0.35,
    Shape(8, 8, 7168, 8, 64): 0.55,
}

# How much longer than one of bfloat16 a dispatch with the cast to FP8 may take.
FLOAT8_SHAPE = Shape(2, 128, 7168, 8, 64)
MOST_FLOAT8 = 1.7

IN_PLACE = " in place"  # ends the columns of an expert that leaves rows where they are; the others' expert copies
FLOAT8_COLUMN = "crossdock fp8"


class LowLatencyCrossdock(Crossdock):
    def _seconds(self, iterations):
        return 120


class LowLatencyPeer(MpiPeer):
    """Times blocks of as many round trips as crossdock does, one for each iteration of a phase."""

    def _seconds(self, iterations):
        return 120

    def _command(self, shape, iterations, folder, json_file):
        return [*super()._command(shape, iterations, folder, json_file), "--loop", str(iterations)]


def crossdock(settings, column, *flags):
    return LowLatencyCrossdock(settings.crossdock, settings.launch, column, ["--mode", "low-latency", *flags])


def peer(mpi, expert, benchmarks, settings):
    ending = IN_PLACE if expert == "inplace" else ""
    variants = {"alltoallv": mpi.title + ending, "alltoallv_throughput": f"{mpi.title} throughput{ending}"}
    flags = ["--mode", "low-latency", "--expert", expert, "--pages", settings.peer_pages]
    return LowLatencyPeer(mpi, variants, flags, benchmarks, settings.build)


class Contenders:
    """Built once, chosen for each shape."""

    def __init__(self, benchmarks, settings):
        self._usual = [crossdock(settings, "crossdock", "--combine-input", "arena"),
                       crossdock(settings, f"crossdock{IN_PLACE}", "--combine-input", "inplace")]
        self._float8 = crossdock(settings, FLOAT8_COLUMN, "--combine-input", "arena", "--dtype", "fp8")
        for mpi in [MPIS[name]() for name in settings.peers]:
            self._usual.extend(peer(mpi, expert, benchmarks, settings) for expert in ("copy", "inplace"))

    def of(self, shape):
        first, *others = self._usual
        return [first, self._float8, *others] if shape == FLOAT8_SHAPE else self._usual


def usual_iterations(shape, quick):
    """So many that a block takes about ten milliseconds on an idle machine of two cores; fewer than 10 tell little."""
    return max(10, 600 // (shape.tokens * shape.ranks)) // (4 if quick else 1)


def own_column(column):
    return f"crossdock{IN_PLACE}" if column.endswith(IN_PLACE) else "crossdock"


def summary(shape, runs, failures):
    """All that is reported of one shape."""
    columns = measurement.summarise(runs, PHASES, own_column)
    return {"shape": vars(shape), "title": shape.title, "columns": columns, "missing": failures,
            "bars": bars_of(shape, runs), "float8": float8(shape, runs)}


def bars_of(shape, runs):
    """crossdock's round trip as a share of each variant's of Open MPI.

    The bar was set for the job of the throughput mode, which moves a row for each token and rank, with an expert that
    copies: that one decides. The others are for information. passed is None where one side is missing.
    """
    most = BARS.get(shape)
    if most is None:
        return []
    result = []
    for ending in ("", IN_PLACE):
        for variant in ("Open MPI throughput", "Open MPI"):
            against, own = runs.get(variant + ending), runs.get(f"crossdock{ending}")
            share = 1 / measurement.ratio(against, own, "round_trip") if against and own else None
            result.append({"against": variant + ending, "phase": "round_trip", "most": most, "reached": share,
                           "passed": None if share is None else share <= most,
                           "decides": variant + ending == "Open MPI throughput"})
    return result


def float8(shape, runs):
    cast, plain = runs.get(FLOAT8_COLUMN), runs.get("crossdock")
    if shape != FLOAT8_SHAPE or not cast or not plain:
        return None
    times = measurement.ratio(cast, plain, "dispatch")
    return {"times": times, "most": MOST_FLOAT8, "passed": times <= MOST_FLOAT8}


def verdicts(reports):
    """The outcome of every bar that decides."""
    for report in reports:
        yield from (bar["passed"] for bar in report["bars"] if bar["decides"])
        if report["float8"]:
            yield report["float8"]["passed"]
