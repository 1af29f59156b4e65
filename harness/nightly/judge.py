# SPDX-License-Identifier: GPL-2.0-only
"""What a night says: which cells count, and how they lie to the nights before. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.experiment.regression import Count, Move, gone, moves
from harness.nightly.findings import Compared, differences, known_failures, revision_clean, still_there
from harness.nightly.known import Known
from harness.results.night import Finding, KnownSeen, NightCell, NightResult

#: An entry of known issues is complained of if chance keeps its failure away more rarely than this.
GONE = 0.05
#: Or if it was not seen in so many nights, tonight included.
UNSEEN = 4


@dataclass(frozen=True)
class Judgement:
    """What the report is made from.

    cells: those of tonight, with whether they are judged. silent: what should have been judged and was not.
    """

    cells: tuple[NightCell, ...]
    findings: tuple[Finding, ...] = ()
    still: tuple[Finding, ...] = ()
    known: tuple[KnownSeen, ...] = ()
    complaints: tuple[str, ...] = ()
    silent: tuple[NightCell, ...] = ()


@dataclass(frozen=True)
class Past:
    """What the nights before measured, the newest first."""

    nights: tuple[NightResult, ...] = ()

    def of(self, cell: NightCell) -> list[NightCell]:
        """The same asked in earlier nights, whatever came of it."""
        return [each for night in self.nights for each in night.cells if each.series == cell.series]

    def judged(self, cell: NightCell) -> tuple[NightCell, ...]:
        """Those that say something."""
        return tuple(each for each in self.of(cell) if each.judged)


def judge(tonight: Sequence[NightCell], past: Past, known: Known, false_alarm: float) -> Judgement:
    """Compare a night with those before. A failure of a valid known issue counts as none, in all nights."""
    cells = controlled(tonight)
    compared = _compared([cell for cell in cells if cell.judged], past, known)
    findings = differences(compared, known, false_alarm)
    still = [finding for each in compared for finding in still_there(each, known)]
    for cell in cells:
        if _unbuilt(cell):
            (still if _was_unbuilt(cell, past) else findings).append(_build(cell, past, known))
    silent = [
        cell
        for cell in cells
        if cell.role == "candidate"
        and not cell.judged
        and not _unbuilt(cell)
        # What cannot be, and never was, is in the table; what was run until now is missed.
        and (cell.state != "not applicable" or past.judged(cell))
    ]
    return Judgement(
        cells,
        tuple(findings),
        tuple(still),
        tuple(seen for each in compared for seen in known_failures(each.cell, known)),
        tuple(_complaints([each.cell for each in compared], past, known)),
        tuple(silent),
    )


def controlled(cells: Sequence[NightCell]) -> tuple[NightCell, ...]:
    """The cells with whether they are judged: nothing is said of a kernel without a control that failed.

    That is the control of the same scenario in the same guest; where that is left out, any of the tree.
    """
    controls = {
        (cell.tree, cell.label, cell.place): cell
        for cell in cells
        if cell.role == "control" and not cell.reason.startswith("left out")
    }
    return tuple(
        cell.model_copy(update={"judged": not why, "why": why})
        for cell in cells
        for others in [[each for each in controls.values() if each.tree == cell.tree]]
        for why in [_why_not(cell, controls.get((cell.tree, cell.label, cell.place)), others)]
    )


def _why_not(cell: NightCell, control: NightCell | None, others: Sequence[NightCell]) -> str:
    """others: the controls of the whole tree."""
    if cell.state != "done" or not cell.answered:
        ways = ", ".join(f"{count} {kind}" for kind, count in cell.outcomes.items())
        return cell.reason or f"no trial answered ({ways})"
    if cell.role == "control":
        return ""
    if control is None:
        if any(other.reproduced for other in others):
            return ""
        failed = any(other.answered for other in others)
        return "no control of this tree " + ("showed its bug" if failed else "has an answer tonight")
    if control.reproduced:
        return ""
    if control.answered:
        return f"the control, {control.kernel}, did not show the bug in {control.answered} trials"
    return f"the control, {control.kernel}, has no answer{f': {control.reason}' if control.reason else ''}"


def _compared(cells: Sequence[NightCell], past: Past, known: Known) -> list[Compared]:
    found = []
    for cell in cells:
        base = past.judged(cell)
        before = sum((_count(each, known) for each in base), Count(0, 0))
        found.append(Compared(cell, base, _count(cell, known), before))
    tested: list[Move | None] = moves([(each.now, each.before) for each in found])
    return [replace(each, move=move) for each, move in zip(found, tested, strict=True)]


def _count(cell: NightCell, known: Known) -> Count:
    if cell.role == "control":
        return Count(cell.reproduced, cell.answered)
    new = sum(each.trials for each in cell.failures if known.issue_of(cell, each.shown) is None)
    return Count(new, cell.answered)


def _unbuilt(cell: NightCell) -> bool:
    """A kernel that does not build, or does not come up as asked. (A fault of the machine has a trial.)"""
    return cell.role == "candidate" and cell.state == "failed" and not cell.trials


def _was_unbuilt(cell: NightCell, past: Past) -> bool:
    return any(_unbuilt(each) for each in past.of(cell)[:1])


def _build(cell: NightCell, past: Past, known: Known) -> Finding:
    return Finding(
        kind="build",
        worse=True,
        tree=cell.tree,
        where=cell.where,
        series=cell.series,
        said=cell.reason,
        good=revision_clean(past.judged(cell), known),
        bad=cell.revision,
        no_bisect="a bisection skips what does not build; see the log of the build",
    )


def _complaints(judged: Sequence[NightCell], past: Past, known: Known) -> list[str]:
    """Entries of the known issues that somebody should see to."""
    said = [f"known issue {issue} expired on {issue.expires}" for issue in known.expired]
    for issue in known.valid:
        counts = []
        for cells in (judged, *(night.cells for night in past.nights)):
            mine = [each for each in cells if each.judged and each.role == "candidate" and issue.covers(each)]
            tried = Count(sum(map(issue.trials_of, mine)), sum(each.answered for each in mine))
            counts.append(tried)
        now, earlier = counts[0], [each for each in counts[1:] if each.answered]
        if now.failed or not now.answered:
            continue
        seen, before = sum(each.failed > 0 for each in earlier), sum(earlier, Count(0, 0))
        if seen and gone(now, before) <= GONE:
            said.append(
                f"known issue {issue} does not appear any more: in {seen} of the last {len(earlier)} nights "
                f"({before} trials), not tonight ({now})"
            )
        elif not seen and len(earlier) + 1 >= UNSEEN:
            said.append(f"known issue {issue} was not seen in the last {len(earlier) + 1} nights")
    return said
