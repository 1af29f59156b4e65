# SPDX-License-Identifier: GPL-2.0-only
"""How one cell differs from the same cell in the nights before. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from harness.experiment.regression import Count, Move, apart
from harness.nightly.known import Known, first
from harness.results.matrix import SignatureCount
from harness.results.night import Finding, KnownSeen, NightCell
from harness.scenario.catalogue import load_scenario

#: A figure on the virtual clock repeats exactly, and any change of the code changes it: what is less is none.
FIGURE = 0.05


@dataclass(frozen=True)
class Compared:
    """A cell that is judged, beside the nights before that were, the newest first.

    now, before: without the failures of known issues. move: None if there is nothing to compare with.
    """

    cell: NightCell
    base: tuple[NightCell, ...]
    now: Count
    before: Count
    move: Move | None = None


def differences(compared: Sequence[Compared], known: Known, false_alarm: float) -> list[Finding]:
    """All that was not so in the nights before: failures, rates, figures."""
    found: list[Finding] = []
    figures = sum(len(each.cell.values) for each in compared if each.cell.clock == "virtual")
    for each in compared:
        failures = list(_failures(each, known)) if each.cell.role == "candidate" else []
        rate = _rate(each, known, false_alarm)
        if rate and rate.worse and failures:  # it is they that moved it
            rate = None
        found += [*failures, *([rate] if rate else []), *_figures(each, known, false_alarm / max(1, figures))]
    return found


def still_there(compared: Compared, known: Known) -> Iterator[Finding]:
    """Failures that the nights before had too."""
    cell = compared.cell
    for same, trials, failure in _kinds(cell) if cell.role == "candidate" else ():
        seen = sum(any(each.same == same for each in before.failures) for before in compared.base)
        listed = known.issue_of(cell, failure.shown) or first(known.expired, cell, failure.shown)
        if seen and not listed:
            said = f"{trials} of {cell.answered} trials, as in {seen} of {_nights(compared)}"
            yield _finding(compared, known, "still", f"{said} ({compared.before})", failure.shown)


def known_failures(cell: NightCell, known: Known) -> Iterator[KnownSeen]:
    """Failures that somebody knows of."""
    for failure in cell.failures if cell.role == "candidate" else ():
        issue = known.issue_of(cell, failure.shown)
        if issue:
            yield KnownSeen(
                signature=failure.shown,
                link=issue.link,
                where=cell.where,
                trials=failure.trials,
                answered=cell.answered,
            )


def revision_clean(base: Sequence[NightCell], known: Known) -> str:
    """The revision of the last night without a failure (but known ones); empty if there is none."""
    for cell in base:
        if all(known.issue_of(cell, failure.shown) for failure in cell.failures):
            return cell.revision
    return ""


def _kinds(cell: NightCell) -> list[tuple[str, int, SignatureCount]]:
    """The failures that are different ones: what they have in common, in how many trials, and one of them."""
    found: dict[str, tuple[str, int, SignatureCount]] = {}
    for failure in cell.failures:
        same, trials, shown = found.get(failure.same, (failure.same, 0, failure))
        found[same] = (same, trials + failure.trials, shown)
    return list(found.values())


def _failures(compared: Compared, known: Known) -> Iterator[Finding]:
    cell = compared.cell
    before = {failure.same for each in compared.base for failure in each.failures}
    for same, trials, failure in _kinds(cell):
        if known.issue_of(cell, failure.shown):
            continue
        often = f"{trials} of {cell.answered} trials"
        expired = first(known.expired, cell, failure.shown)
        if expired:
            said = f"{often}; its known issue expired on {expired.expires}: {expired.link}"
            yield _finding(compared, known, "expired", said, failure.shown)
        elif same not in before:
            if compared.base:
                often += f", in none of {_trials(compared)} of {_nights(compared)}"
            else:
                often += "; there is no earlier night of it to compare with"
            p_value = compared.move.adjusted if compared.move else None
            yield _finding(compared, known, "new_failure", often, failure.shown, p_value=p_value)


def _rate(compared: Compared, known: Known, false_alarm: float) -> Finding | None:
    move = compared.move
    if move is None or move.adjusted > false_alarm:
        return None
    said = f"{compared.now} trials fail, {compared.before} in {_nights(compared)} (p = {move.adjusted:.2g})"
    if compared.cell.role == "control":
        if move.up:
            return None
        said = f"the control shows its bug less often: {said}; a clean candidate says less"
        return _finding(compared, known, "control", said, p_value=move.adjusted)
    return _finding(compared, known, "rate", said, worse=move.up, p_value=move.adjusted)


def _figures(compared: Compared, known: Known, error: float) -> Iterator[Finding]:
    """Figures of the virtual clock only: those of the host's are the host's, too."""
    cell = compared.cell
    if cell.clock != "virtual" or cell.role == "control":
        return
    limits = load_scenario(cell.scenario).oracle.metrics
    for name, now in cell.values.items():
        before = [value for each in compared.base for value in each.values.get(name, ())]
        if not apart(now, before, error):
            continue
        middle, was = median(now), median(before)
        if abs(middle - was) <= FIGURE * abs(was):
            continue
        lower_is_worse = name in limits and limits[name].below is not None
        unit = f" {limits[name].unit}" if name in limits and limits[name].unit else ""
        spans = [f"{median(values):.4g} ({min(values):.4g} to {max(values):.4g})" for values in (now, before)]
        said = f"{name}: {spans[0]}{unit}, {spans[1]} in {_nights(compared)}: no overlap"
        yield _finding(compared, known, "figure", said, worse=(middle > was) != lower_is_worse)


def _finding(
    compared: Compared,
    known: Known,
    kind: str,
    said: str,
    signature: str = "",
    *,
    worse: bool = True,
    p_value: float | None = None,
) -> Finding:
    cell = compared.cell
    facts: Mapping[str, object] = {"kind": kind, "worse": worse, "said": said, "p_value": p_value}
    good = revision_clean(compared.base, known)
    place = {"tree": cell.tree, "where": cell.where, "series": cell.series}
    ends = {"good": good, "bad": cell.revision, "no_bisect": _no_bisect(kind, worse, good, cell, compared)}
    return Finding.model_validate({**facts, **place, **ends, "signature": signature})


def _no_bisect(kind: str, worse: bool, good: str, cell: NightCell, compared: Compared) -> str:
    """Why a bisection cannot find where it came from; empty if it can."""
    if not worse:
        return "it is no regression"
    if kind == "control":
        return "the control has the bug anyway: look at the host's load, the compiler, the harness"
    if kind == "figure":
        return "bisect tells failures apart, not figures"
    if not good:
        return "no night before it was clean" if compared.base else "there is no earlier night"
    if good == cell.revision:
        return (
            "the last clean night was of the same revision: not the tree has changed, but what is around it"
        )
    return ""


def _nights(compared: Compared) -> str:
    count = len(compared.base)
    return f"the last {count} nights" if count > 1 else "the last night"


def _trials(compared: Compared) -> str:
    return f"{compared.before.answered} trials"
