#!/usr/bin/env python3
"""Compares crossdock with the same job written with MPI, on this machine.

Programs run in turn, round after round; times are medians over rounds, ratios medians of the ratios within a round.
Ends with 0 if every bar that could be measured is passed and every result was right, otherwise with 1.
"""

import argparse
import json
import pathlib
import sys

from comparison import contenders, low_latency, low_latency_report, machine, measurement, report, shapes
from comparison.copy_limit import CopyLimit
from comparison.processes import Failed

BENCHMARKS = pathlib.Path(__file__).resolve().parent
PROJECT = BENCHMARKS.parent


def shape_argument(text):
    try:
        return shapes.parse_shape(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=("normal", "low-latency"), default="normal")
    parser.add_argument("--shape", action="append", type=shape_argument, metavar="R,T,H,K,E",
                        help="instead of the shapes that have bars; may be given several times")
    parser.add_argument("--traces", action="store_true", help="also the recorded traces of trained models")
    parser.add_argument("--growth", action="store_true", help="also the cost of twice the tokens, 8 ranks")
    parser.add_argument("--memory", action="store_true", help="also the resident memory of 8 ranks")
    parser.add_argument("--only-extras", action="store_true", help="no shapes but those of --traces, --growth, --memory")
    parser.add_argument("--quick", action="store_true",
                        help="2 rounds of 5 iterations instead of 5 of 15; in low-latency mode 2 rounds instead of 3, "
                             "with a quarter of their iterations")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--iterations", type=int,
                        help="in low-latency mode also the round trips in each of ten blocks (default: by the shape)")
    parser.add_argument("--peers", nargs="*", choices=tuple(contenders.MPIS),
                        help="which MPIs (default: both; in low-latency mode Open MPI); MPICH takes minutes with more "
                             "ranks than cores, because it spins")
    parser.add_argument("--direct-self", action="store_true",
                        help="also an MPI_Alltoallv that keeps a rank's rows to itself out of MPI")
    parser.add_argument("--peer-pages", choices=("small", "huge"), default="small",
                        help="of the peers' buffers: small is what malloc gives and what the bars refer to; huge asks "
                             "for huge pages, which makes Open MPI up to twice as fast")
    parser.add_argument("--threads", action="store_const", const="threads", default="processes", dest="launch",
                        help="crossdock's ranks are threads instead of processes")
    parser.add_argument("--crossdock", type=pathlib.Path, default=PROJECT / "build" / "bin" / "crossdock")
    parser.add_argument("--build", type=pathlib.Path, default=PROJECT / "build", help="where the peers are built")
    parser.add_argument("--json", type=pathlib.Path, help="default: bench/compare.json in the build folder")
    arguments = parser.parse_args()
    fill_in(arguments)
    if arguments.mode == "low-latency":
        for name in ("traces", "growth", "memory", "only_extras", "direct_self"):
            if getattr(arguments, name):
                parser.error(f"--{name.replace('_', '-')} goes with --mode normal only")
    return arguments


def fill_in(arguments):
    normal = arguments.mode == "normal"
    arguments.rounds = arguments.rounds or (2 if arguments.quick else 5 if normal else 3)
    if normal:
        arguments.iterations = arguments.iterations or (5 if arguments.quick else 15)
    if arguments.peers is None:
        arguments.peers = list(contenders.MPIS) if normal else ["openmpi"]
    name = "compare.json" if normal else "compare-low-latency.json"
    arguments.json = arguments.json or arguments.build / "bench" / name


def say(text):
    print(f"  ... {text}", file=sys.stderr, flush=True)


def wanted_shapes(arguments):
    wanted = list(arguments.shape or ([] if arguments.only_extras else shapes.BARS))
    return wanted + (shapes.trace_shapes(PROJECT / "data") if arguments.traces else [])


def compare_shapes(arguments, crossdock, limit):
    programs = [crossdock]
    for name in arguments.peers if wanted_shapes(arguments) else ():
        say("building a peer, if it is not built")
        programs.append(contenders.normal_peer(contenders.MPIS[name](), BENCHMARKS, arguments.build, arguments))
    for shape in wanted_shapes(arguments):
        say(shape.title)
        runs, failures = measurement.interleave(shape, programs, arguments.rounds, arguments.iterations, say)
        one = measurement.summary(shape, runs, failures, limit)
        one["copying"] = measurement.copying(one)
        print(report.shape_table(one), end="\n\n", flush=True)
        yield one


def extras(arguments, crossdock, whole):
    if arguments.growth:
        whole["growth"] = measurement.growth(crossdock, arguments.rounds, arguments.iterations, say)
        print(report.growth_table(whole["growth"]), end="\n\n", flush=True)
    if arguments.memory:
        whole["memory"] = measurement.memory(crossdock, arguments.iterations, say)
        print(report.memory_table(whole["memory"]), end="\n\n", flush=True)


def compare_normal(arguments, whole):
    """Fills `whole`. False if something went wrong, or a bar was missed."""
    crossdock = contenders.Crossdock(arguments.crossdock, arguments.launch)
    limit = CopyLimit(BENCHMARKS, arguments.build, 3 if arguments.quick else 7)
    whole["shapes"] = list(compare_shapes(arguments, crossdock, limit))
    good = not any("crossdock" in one["missing"] for one in whole["shapes"])
    try:
        extras(arguments, crossdock, whole)
    except Failed as failure:
        print(f"crossdock: {failure}")
        good = False
    whole["copy_limit"] = {"reason": limit.reason, "results": limit.results}
    return good and False not in report.verdicts(whole)


def compare_low_latency(arguments, whole):
    """Fills `whole`. False if something went wrong, or a bar was missed."""
    say("building the peers, if they are not built")
    programs = low_latency.Contenders(BENCHMARKS, arguments)
    whole["shapes"] = []
    for shape in arguments.shape or low_latency.BARS:
        say(shape.title)
        iterations = arguments.iterations or low_latency.usual_iterations(shape, arguments.quick)
        runs, failures = measurement.interleave(shape, programs.of(shape), arguments.rounds, iterations, say)
        whole["shapes"].append({**low_latency.summary(shape, runs, failures), "iterations": iterations})
        print(low_latency_report.shape_table(whole["shapes"][-1]), end="\n\n", flush=True)
    ours = any(column.startswith("crossdock") for one in whole["shapes"] for column in one["missing"])
    return not ours and False not in low_latency.verdicts(whole["shapes"])


def main():
    arguments = parse_arguments()
    whole = {"schema": 1, "machine": machine.describe(),
             "settings": {name: getattr(arguments, name)
                          for name in ("mode", "rounds", "iterations", "launch", "peer_pages")}}
    compare = compare_normal if arguments.mode == "normal" else compare_low_latency
    good = compare(arguments, whole)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(whole, indent=1) + "\n")
    print(f"All numbers: {arguments.json}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
