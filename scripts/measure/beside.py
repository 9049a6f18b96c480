"""This program beside another version of itself, run by turns."""

import os
import statistics

from measure.figures import interleaved, median, table
from measure.keeper import STATES, hour, resident

# So much worse may a version be that brings nothing for it.
MARGIN = 0.02


def compared(title, other, this, unit, digits):
    change = (this - other) / other
    return [title, f"{other:.{digits}f} {unit}", f"{this:.{digits}f} {unit}", f"{change:+.1%}",
            "yes" if change <= MARGIN else "**no**"]


def figures(benches, variants, bao, runs, rounds, seconds):
    """Prints the figures of both; `benches` and `variants` are those of the other version first, then those of this one."""
    rows = [compared("binary", *(os.path.getsize(each.anteroom) / 2**20 for each in benches), "MiB", 3)]
    for what, run in {"start": lambda each: each.start(bao), "dry run": lambda each: each.dry_run(),
                      "check": lambda each: each.check()}.items():
        results = interleaved(runs, {version: lambda each=each: run(each) for version, each in enumerate(variants)})
        for column, (name, unit, scale) in enumerate((("wall time", "ms", 1), ("CPU", "ms", 1),
                                                      ("largest process", "MiB", 1024))):
            medians = (median(each, column) / scale for each in results.values())
            rows.append(compared(f"{what}, {name}", *medians, unit, 2))
    for state in STATES:
        results = interleaved(rounds, {version: lambda each=each: resident(each, bao, state)
                                       for version, each in enumerate(benches)})
        for column, name in enumerate(("RSS", "private memory")):
            rows.append(compared(f"keeper {state}, {name}", *(median(each, column) / 1024 for each in results.values()),
                                 "MiB", 2))
    totals = interleaved(rounds // 3, {version: lambda each=each: hour(each, bao, seconds)[1:]
                                       for version, each in enumerate(benches)})
    rows.append(compared("keeper's CPU in an hour", *(statistics.mean(one for one, in each) for each in totals.values()),
                         "ms", 1))
    print(f"## This version beside another: {runs} starts, {rounds} keepers, {rounds // 3} hours of CPU of "
          f"{seconds} s each\n")
    table(["figure, medians", "the other version", "this version", "change", f"at most {MARGIN:.0%} worse"], rows)
