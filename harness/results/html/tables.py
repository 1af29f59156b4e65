# SPDX-License-Identifier: GPL-2.0-only
"""What a verb's result lists beyond trials: the kernels of a bisection, the cases of a self-test."""

from __future__ import annotations

from dataclasses import dataclass

from harness.plain import plain
from harness.results.nighttext import HEAD, cell_rows, facts, lists, night_rows
from harness.results.report import case_words, tested_row
from harness.results.runfolder import RECORD
from harness.results.schema import BisectResult, SelftestResult, read_as
from harness.results.summary import Summary


@dataclass(frozen=True)
class Listing:
    """One table."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(summary: Summary) -> tuple[Listing, ...]:
    """In the order in which they are read; none of a comparison, or of a run without a result."""
    run = summary.run
    where = f"{run.folder / RECORD}: result"
    if run.result is None:
        return ()
    if run.verb == "bisect":
        found = read_as(BisectResult, run.result, where)
        rows = tuple(tuple(map(plain, tested_row(found, kernel))) for kernel in found.tested)
        return (Listing("Kernels tested", ("kernel", "trials", "bug", "verdict", "had in", "title"), rows),)
    night = summary.night
    if night:
        differs = tuple(tuple(map(plain, row)) for row in night_rows(night))
        cells = tuple(tuple(map(plain, row)) for row in cell_rows(night))
        listed = (
            Listing("What differs", ("", ""), differs),
            *(
                Listing(title.capitalize(), ("",), tuple((plain(item),) for item in items))
                for title, items in lists(night)
            ),
            Listing("All of it", HEAD, cells),
            Listing("The night", ("", ""), tuple(tuple(map(plain, row)) for row in facts(night))),
        )
        return tuple(listing for listing in listed if listing.rows)
    if run.verb == "selftest":
        done = read_as(SelftestResult, run.result, where)
        cases = tuple(
            (
                case.name,
                plain(case.provokes),
                case_words(case.expected),
                case_words(case.reported),
                "as expected" if case.as_expected else "MISSED",
                f"{case.seconds:.1f} s",
            )
            for case in done.cases
        )
        return (Listing("Cases", ("case", "provokes", "expected", "reported", "", "took"), cases),)
    return ()
