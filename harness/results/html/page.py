# SPDX-License-Identifier: GPL-2.0-only
"""What is on the page: a run, read from its folder, as the values that the template shows."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from harness.plain import plain
from harness.results.cases import case_text, trial_cases
from harness.results.excerpt import console_excerpt
from harness.results.formats.evidence import trial_title
from harness.results.html.console import Block, console_blocks
from harness.results.html.timeline import read_timeline, timeline_svg
from harness.results.kernels import config_diff, kept_config, kept_diffs
from harness.results.reading import TrialRecord
from harness.results.schema import PatchFacts
from harness.results.summary import Arm, Summary
from harness.watch.ktap import Case, CaseStatus

#: Trials that are shown with their console and timeline: those that failed first.
DETAILED = 8
#: Trials in the table.
LISTED = 400
#: A drawing that is larger is none of ours, bytes; so with a diff, characters.
_DRAWING = 512 << 10
_DIFF = 200_000
#: Of what the guest was asked for after its outcome was clear, bytes shown.
_ASKED = 24 << 10
#: Cases of one trial, and characters of what each said.
_CASES = 500
_CASE = 4000


@dataclass(frozen=True)
class TrialView:
    """One trial in full."""

    trial: TrialRecord
    arm: Arm
    title: str
    #: Shown when the page is opened.
    open: bool
    #: (what, words) about it.
    facts: tuple[tuple[str, str], ...]
    cycle: str
    #: The circle as drawn, as a data URL; empty if there is none.
    drawing: str
    timeline: Markup
    blocks: tuple[Block, ...]
    #: What the guest was asked for afterwards.
    asked: tuple[Block, ...]
    #: What of its record is missing or damaged.
    missing: tuple[str, ...]
    #: What a suite of tests said in it, with the words of each: what did not pass first.
    cases: tuple[tuple[Case, str], ...]

    @property
    def counts(self) -> str:
        """`55 passed, 3 skipped`."""
        counts = Counter(str(case.status) for case, _ in self.cases)
        return ", ".join(f"{count} {status}" for status, count in counts.items())


@dataclass(frozen=True)
class PatchView:
    """A change that a kernel had, and its diff as lines with what they are: add, del, head or same."""

    facts: PatchFacts
    lines: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class KernelView:
    """What one arm booted."""

    arm: Arm
    patches: tuple[PatchView, ...]
    #: How its configuration differs from the first arm's; None where that was not kept.
    config: tuple[str, ...] | None


def detailed(summary: Summary) -> list[tuple[Arm, TrialRecord]]:
    """The trials that are worth their place, in the order of the table."""
    pairs = [(arm, trial) for arm in summary.arms for trial in arm.trials]

    def weight(pair: tuple[Arm, TrialRecord]) -> tuple[bool, bool, int]:
        arm, trial = pair
        mark = arm.mark(trial.result) if trial.result else "silent"
        return mark not in ("failed", "silent"), mark in ("passed", "skipped"), trial.index

    chosen = sorted(pairs, key=weight)[:DETAILED]
    # One that passed, to compare with.
    passed = [pair for pair in pairs if weight(pair)[1]]
    if passed and passed[0] not in chosen:
        chosen[-1] = passed[0]
    return [pair for pair in pairs if pair in chosen]


def trial_view(summary: Summary, arm: Arm, trial: TrialRecord) -> TrialView:
    """Everything that the folder of a trial still has."""
    result = trial.result
    missing: list[str] = []
    end = _console_bytes(trial.folder)
    until = result.judged_until_s if result else None
    moments = (
        [moment for moment in (result.console_s, result.decided_s) if moment is not None] if result else []
    )
    excerpt = console_excerpt(trial.folder, moments, end=end)
    if summary.run.pruned:
        missing.append(f"its evidence was removed on {plain(summary.run.pruned[:10])}")
    elif not excerpt.parts:
        missing.append("its console is not there")
    asked = console_excerpt(trial.folder, [], begin=end, whole=_ASKED) if end is not None else None
    timeline = read_timeline(trial.folder, result)
    if timeline.damaged:
        missing.append(f"damaged: {plain(timeline.damaged)}")
    events = [event for event in excerpt.events if until is None or event.host_s <= until]
    cycle = "\n".join(result.cycle) if result else ""
    return TrialView(
        trial=trial,
        arm=arm,
        title=trial_title(result) if result else f"the trial is {trial.state}",
        open=(result is not None and result is summary.shown) or len(summary.run.trials) == 1,
        facts=tuple(_facts(trial)),
        cycle=plain(cycle),
        drawing=_drawing(trial.folder / "evidence" / "cycle.svg") if cycle else "",
        timeline=timeline_svg(timeline, result, events) if timeline.end_s else Markup(""),
        blocks=console_blocks(excerpt),
        asked=console_blocks(asked) if asked else (),
        missing=tuple(missing),
        cases=_cases(trial),
    )


def _cases(trial: TrialRecord) -> tuple[tuple[Case, str], ...]:
    order = (CaseStatus.FAILED, CaseStatus.EXPECTED, CaseStatus.SKIPPED, CaseStatus.PASSED)
    cases = sorted(trial_cases(trial), key=lambda case: order.index(case.status))
    return tuple((case, case_text(case)[:_CASE]) for case in cases[:_CASES])


def _console_bytes(folder: Path) -> int | None:
    """Where the console ends that was judged: what follows it the harness has asked for."""
    try:
        value = json.loads((folder / "evidence" / "evidence.json").read_text(encoding="utf-8"))[
            "console_bytes"
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return value if isinstance(value, int) and value >= 0 else None


def _facts(trial: TrialRecord) -> list[tuple[str, str]]:
    facts = [("seed", str(trial.seed))]
    result = trial.result
    if result:
        facts += [("signature", result.signature), ("proof", result.proof)]
        facts += [("windows", f"{result.windows} in {result.iterations} iterations")]
        facts += [(name, f"{value:g}") for name, value in result.metrics.items()]
        facts += [("took", f"{result.seconds:.1f} s")]
    provenance = trial.facts.get("provenance", {})
    facts += [("QEMU", str(provenance.get("qemu", "")) if isinstance(provenance, dict) else "")]
    facts += [("again", str(trial.facts.get("command", ""))), ("evidence", str(trial.folder))]
    return [(name, plain(words)) for name, words in facts if words]


def _drawing(path: Path) -> str:
    """An image by its content: a browser runs no script in one, whoever wrote it."""
    try:
        if path.stat().st_size > _DRAWING:
            return ""
        data = path.read_bytes()
    except OSError:
        return ""
    return f"data:image/svg+xml;base64,{base64.b64encode(data).decode()}"


def kernel_views(summary: Summary) -> tuple[KernelView, ...]:
    """Each kernel once, by the first arm that booted it, with its patches as far as their text was kept."""
    views: list[KernelView] = []
    first: str | None = None
    seen: set[str] = set()
    for arm in summary.arms:
        if arm.kernel is None or arm.kernel.build in seen:
            continue
        seen.add(arm.kernel.build)
        diffs = kept_diffs(summary.run.folder, arm.kernel)
        config = kept_config(summary.run.folder, arm.kernel)
        first = config if not views else first
        both = first is not None and config is not None
        views.append(
            KernelView(
                arm=arm,
                patches=tuple(
                    PatchView(patch, _diff_lines(diffs.get(patch.sha256, ""))) for patch in arm.patches
                ),
                config=config_diff(first or "", config or "") if both else None,
            )
        )
    return tuple(views)


def _diff_lines(diff: str) -> tuple[tuple[str, str], ...]:
    return tuple((_kind(line), plain(line)) for line in diff[:_DIFF].splitlines())


def _kind(line: str) -> str:
    if line.startswith(("diff ", "--- ", "+++ ", "@@", "index ")):
        return "head"
    return {"+": "add", "-": "del"}.get(line[:1], "same")


def trial_rows(summary: Summary, shown: Sequence[TrialView]) -> list[tuple[Arm, TrialRecord, str]]:
    """The trials in the order in which they were run, with the place of those that are shown in full."""
    places = {view.trial.folder: f"trial-{number}" for number, view in enumerate(shown, start=1)}
    arms = {arm.name: arm for arm in summary.arms}
    return [(arms[trial.arm], trial, places.get(trial.folder, "")) for trial in summary.run.trials[:LISTED]]
