# SPDX-License-Identifier: GPL-2.0-only
"""A night as text: what is worse, what else somebody should see to, and all that was run."""

from __future__ import annotations

from collections.abc import Iterator

from harness.display import elapsed
from harness.layout import Part, Prose, Table, Whole
from harness.results.night import Finding, NightCell, NightResult
from harness.results.runfolder import arm_of

#: What a finding is called.
KINDS = {
    "new_failure": "new failure",
    "expired": "known issue expired",
    "build": "does not build or come up",
    "rate": "rate moved",
    "figure": "figure moved",
    "control": "control",
    "still": "still failing",
}

HEAD = ("tree", "scenario", "kernel", "guest", "fail", "95 % interval", "says")


def night_parts(done: NightResult) -> list[Part]:
    """The report for a terminal, a mail, a log."""
    parts: list[Part] = [f"verdict: {done.verdict}", Prose(done.reason)]
    for title, findings in sections(done):
        parts += ["", f"  {title}"]
        for finding in findings:
            parts += _finding_parts(finding)
    for title, items in lists(done):
        parts += ["", f"  {title}", *(Prose(item, 4, 6) for item in items)]
    if done.cells:
        parts += ["", Table([HEAD, *map(_row, done.cells)])]
    return [*parts, "", *(Whole(f"  {name:12} ", words) for name, words in facts(done))]


def night_rows(done: NightResult) -> tuple[tuple[str, str], ...]:
    """What differs, as rows of a name and words: what and where, the figures, the signature, what to do."""
    return tuple(
        (name, words)
        for _, findings in sections(done)
        for finding in findings
        for name, words in (
            (f"{'worse' if finding.worse else 'better'}: {KINDS[finding.kind]}", finding.where),
            ("figures", finding.said),
            ("signature", finding.signature),
            *(("", words) for words in ends(finding)),
            ("command", finding.bisect),
        )
        if words
    )


def cell_rows(done: NightResult) -> tuple[tuple[str, ...], ...]:
    """All that was run, as rows below HEAD."""
    return tuple(map(_row, done.cells))


def sections(done: NightResult) -> Iterator[tuple[str, list[Finding]]]:
    worse = [finding for finding in done.findings if finding.worse]
    better = [finding for finding in done.findings if not finding.worse]
    for title, found in (("worse", worse), ("still failing", list(done.still)), ("better", better)):
        if found:
            yield title, found


def lists(done: NightResult) -> Iterator[tuple[str, list[str]]]:
    known = [
        f"{seen.where}: {seen.trials} of {seen.answered} trials: {seen.signature} ({seen.link})"
        for seen in done.known
    ]
    silent = [f"{cell.where}: {cell.why}" for cell in done.cells if not cell.judged]
    silent += [f"{unit.name}: {unit.reason}" for unit in done.units if unit.state == "failed"]
    left = [
        f"{unit.name}: {unit.reason}; it comes first next night"
        for unit in done.units
        if unit.state in ("left", "cut")
    ]
    lists = {"known": known, "see to": list(done.complaints), "not judged": silent, "no time": left}
    yield from ((title, items) for title, items in lists.items() if items)


def _finding_parts(finding: Finding) -> list[Part]:
    said = [f"{KINDS[finding.kind]}: {finding.said}", finding.signature, *ends(finding)]
    parts: list[Part] = [Prose(finding.where, 4, 6), *(Prose(words, 6, 8) for words in said if words)]
    return [*parts, *([Whole("      $ ", finding.bisect)] if finding.bisect else [])]


def ends(finding: Finding) -> Iterator[str]:
    if finding.good and finding.good != finding.bad:
        yield f"clean at {arm_of(finding.good)}, tonight at {arm_of(finding.bad)}"
    if finding.bisected:
        yield finding.bisected
    if finding.no_bisect and finding.worse:
        yield f"no bisection: {finding.no_bisect}"


def _row(cell: NightCell) -> tuple[str, ...]:
    failed = cell.reproduced + cell.failed_otherwise
    guest = f"{cell.preempt}, {cell.cpus} CPU{'s' * (cell.cpus > 1)}"
    often = f"{failed}/{cell.answered}" if cell.answered else "-"
    low, high = cell.ci95
    says = "control" if cell.role == "control" else "candidate" if cell.judged else "nothing"
    span = f"{low:.2f} to {high:.2f}" if cell.answered and not cell.failed_otherwise else "-"
    return (cell.tree, cell.label, cell.kernel, guest, often, span, says)


def facts(done: NightResult) -> list[tuple[str, str]]:
    found = done.detectors
    rows = [("night", f"{done.night}, {done.name} on {done.target}")]
    rows += [("self-test", f"{found.good} of {found.cases} as expected" if found and found.cases else "none")]
    before = f"{', '.join(done.compared)} (of {done.nights})" if done.compared else "no earlier night"
    rows += [("compared", f"with {before}; false alarms in {done.false_alarm:.2g} of nights at most")]
    rows += [("tree", f"{tree.name}: {tree.error or tree.source}") for tree in done.trees]
    rows += [("evidence", done.evidence), ("again", done.reproduce)]
    return [*rows, ("took", f"{elapsed(done.seconds)} of {done.budget_minutes:g} min")]
