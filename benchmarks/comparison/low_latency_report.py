"""Tables of low-latency mode for people."""

from comparison.low_latency import PHASES
from comparison.report import duration, verdict

WIDTHS = (32, 12, 12, 13, 18)


def row(cells):
    return f"{cells[0]:<{WIDTHS[0]}}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells[1:], WIDTHS[1:]))


def share_of(column):
    faster = column["round_trip"].get("crossdock_faster")
    return "" if faster is None else f"{1 / faster:.2f}x"


def bar_line(bar):
    reached = "" if bar["reached"] is None else f"{bar['reached']:.2f}x "
    name = "bar" if bar["decides"] else "for information"
    return f"  {name}: round trip at most {bar['most']:.2f}x of {bar['against']}: {reached}{verdict(bar['passed'])}"


def shape_table(report):
    lines = [report["title"], row(("", "dispatch", "combine", "round trip", "crossdock takes"))]
    for name, column in report["columns"].items():
        lines.append(row((name, *(duration(column[phase]["p50_us"]) for phase in PHASES), share_of(column))))
    lines.extend(f"{name}: not measured, {reason}" for name, reason in report["missing"].items())
    lines.extend(bar_line(bar) for bar in report["bars"])
    float8 = report["float8"]
    if float8:
        lines.append(f"  bar: dispatch with the cast to fp8 at most {float8['most']}x as long as bf16: "
                     f"{float8['times']:.2f}x {verdict(float8['passed'])}")
    return "\n".join(lines)
