"""Tables for people."""

from comparison.measurement import PHASES

COLUMNS = ("", "dispatch", "GB/s", "of limit", "crossdock is", "combine", "GB/s", "of limit", "crossdock is")
WIDTHS = (20, 12, 8, 9, 15, 12, 8, 9, 15)


def row(cells):
    first, *others = zip(cells, WIDTHS)
    return f"{first[0]:<{first[1]}}" + "".join(f"{cell:>{width}}" for cell, width in others)


def duration(microseconds):
    return f"{microseconds / 1e3:.2f} ms" if microseconds >= 1000 else f"{microseconds:.1f} us"


def times_faster(ratio):
    return f"{ratio:.2f}x faster" if ratio < 100 else f"{ratio:.0f}x faster"


def phase_cells(phase):
    fraction, faster = phase.get("fraction_of_limit"), phase.get("crossdock_faster")
    return (duration(phase["p50_us"]), f"{phase['gb_per_s']:.1f}", "" if fraction is None else f"{fraction:.0%}",
            "" if faster is None else times_faster(faster))


def verdict(passed):
    return {None: "not measured", True: "pass", False: "FAIL"}[passed]


def shape_table(report):
    lines = [report["title"], row(COLUMNS)]
    for name, column in report["columns"].items():
        lines.append(row((name, *phase_cells(column["dispatch"]), *phase_cells(column["combine"]))))
    limit = report["copy_limit"]
    if limit:
        cells = [cell for phase in PHASES for cell in ("", f"{limit[phase]['gb_per_s']:.1f}", "", "")]
        lines.append(row(("same-traffic limit", *cells)))
    lines.extend(f"{name}: not measured, {reason}" for name, reason in report["missing"].items())
    for bar in report["bars"]:
        reached = "" if bar["reached"] is None else f"{bar['reached']:.2f}x"
        lines.append(f"  bar: {bar['phase']} at least {bar['least']}x faster than {bar['against']}: {reached} "
                     f"{verdict(bar['passed'])}")
    share = report.get("copying")
    if share:
        lines.append(f"  bar: copying at least {share['least']:.0%} of dispatch: {share['share']:.0%} "
                     f"{verdict(share['passed'])}")
    return "\n".join(lines)


def growth_table(growth):
    lines = [growth["title"]]
    for phase in PHASES:
        one = growth[phase]
        lines.append(f"  bar: {phase} takes at most {one['most']} times as long: {one['times']:.2f} "
                     f"{verdict(one['passed'])}")
    return "\n".join(lines)


def memory_table(memory):
    return (f"memory, {memory['title']}\n  bar: resident at most {memory['most']} times inputs, received rows and outputs: "
            f"{memory['pss_bytes'] / 1e9:.2f} GB against {memory['tensor_bytes'] / 1e9:.2f} GB, {memory['times']:.2f} "
            f"{verdict(memory['passed'])}\n  (highest sum of Pss seen from outside: "
            f"{memory['watched_peak_bytes'] / 1e9:.2f} GB)")


def verdicts(whole):
    """Every bar's outcome."""
    for report in whole["shapes"]:
        yield from (bar["passed"] for bar in report["bars"])
        if report.get("copying"):
            yield report["copying"]["passed"]
    for phase in PHASES:
        if whole.get("growth"):
            yield whole["growth"][phase]["passed"]
    if whole.get("memory"):
        yield whole["memory"]["passed"]
