# SPDX-License-Identifier: GPL-2.0-only
"""The text at a run's end, from what its folder records: the same then and whenever it is shown again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from harness.display import elapsed
from harness.errors import UserError
from harness.layout import Part, Prose, Table, Whole, laid_out
from harness.results.matrix import MatrixResult
from harness.results.night import NightResult
from harness.results.nighttext import night_parts
from harness.results.runfolder import RECORD, TrialResult, arm_of
from harness.results.schema import (
    ArmResult,
    BisectResult,
    CompareResult,
    MetricRange,
    SelftestResult,
    SequentialFacts,
    TestedKernel,
    read_as,
)
from harness.results.tables import matrix_parts
from harness.results.text import evidence_lines, splat_lines
from harness.watch.kinds import OutcomeKind

#: The same text, in the run's folder.
REPORT = "report.txt"

Result = Mapping[str, Any]


class Reported(Protocol):
    """What a detector says of a case, or has to."""

    @property
    def outcome(self) -> OutcomeKind: ...

    @property
    def console(self) -> str | None: ...

    @property
    def cpu(self) -> int | None: ...


def report_text(verb: str, result: Result, trials: Sequence[TrialResult], folder: Path) -> str:
    """`report_parts` as text, its lines as long as they are."""
    return "\n".join(laid_out(report_parts(verb, result, trials, folder)))


def report_parts(verb: str, result: Result, trials: Sequence[TrialResult], folder: Path) -> list[Part]:
    """What the verb prints at its end. UserError for a verb whose reports are not known, or a damaged result.

    trials: in the order in which they were run.
    """
    if verb not in _TEXTS:
        raise UserError(f"no report is known of the verb {verb!r}", hint=f"see {folder / REPORT}")
    return ["", *_TEXTS[verb](result, trials, folder)]


def _compare(result: Result, trials: Sequence[TrialResult], folder: Path) -> list[Part]:
    """The verdict, the table, what was enabled, the splat's first lines, and where everything is."""
    done = read_as(CompareResult, result, f"{folder / RECORD}: result")
    head = ("arm", "kernel", "trials", "bug", "rate", "95 % interval", done.counted, "outcomes")
    lines: list[Part] = [f"verdict: {done.verdict}", f"  {done.reason}", ""]
    lines.append(Table([head, *map(_arm_row, done.arms)]))
    if done.p_value is not None:
        lines.append(f"  Fisher's exact p (two-sided): {done.p_value:.2g}")
    if done.sequential:
        lines += _sequential_lines(done.sequential)
    lines += _metric_lines(done.arms)
    boot = done.arms[0].boot
    lines += [
        "",
        f"  tree     {done.arms[0].kernel.tree}",
        f"  guest    {boot.where}, {boot.cpus} CPUs, preempt={boot.preempt}, "
        + (f"watchdog_thresh={boot.watchdog_thresh_s}" if boot.clock == "host" else "virtual clock"),
        f"  scenario {_settings(done.scenario, done.set)}",
    ]
    for arm in done.arms:
        for patch in arm.kernel.patches:
            note = f" ({patch.note})" if patch.note else ""
            lines.append(f"  {arm.name:8} {patch.role}: {patch.name}, {patch.status}{note}")
    # On the virtual clock nobody looks into a guest: its own watchdogs report.
    hung = [arm for arm in done.arms if sum(arm.proofs.values())]
    lines += [f"  {arm.name:8} {_proof_line(arm)}" for arm in hung if boot.clock == "host"]
    told = [trial for trial in trials if trial.kind.is_failure or evidence_lines(trial)]
    shown = max(told, key=lambda trial: (trial.is_bug, bool(evidence_lines(trial))), default=None)
    if shown:
        lines += ["", *_shown(shown)]
    return [
        *lines,
        "",
        Whole("  evidence     ", str(folder)),
        *([Whole("  without us   ", f"{folder}/repro/run.sh (needs QEMU only)")] if done.repro else []),
        Whole("  again        ", done.reproduce),
        f"  took         {elapsed(done.seconds)}",
    ]


def _settings(scenario: str, values: Mapping[str, int | str]) -> str:
    return " ".join([scenario, *(f"{name}={value}" for name, value in values.items())])


def _shown(trial: TrialResult) -> list[str]:
    """The evidence of a trial; of one that has no cycle and no splat, as a starved one, what it came to."""
    lines = evidence_lines(trial) or [f"    {trial.title}"]
    return [f"  {trial.arm}, trial {trial.index} (all of it in {trial.folder}):", *lines]


def _arm_row(arm: ArmResult) -> tuple[str, ...]:
    return (
        arm.name,
        arm.label or arm.kernel.name,
        str(arm.trials),
        str(arm.reproduced),
        "-" if arm.rate is None else f"{arm.rate:.2f}",
        "{:.2f} to {:.2f}".format(*arm.ci95),
        str(arm.windows),
        ", ".join(f"{count} {kind}" for kind, count in arm.outcomes.items()),
    )


def _metric_lines(arms: Sequence[ArmResult]) -> list[Part]:
    """What was measured: median over an arm's trials, and range; and beyond what it is starved."""
    names = dict.fromkeys(name for arm in arms for name in arm.metrics)
    if not names:
        return []
    rows = [("metric", *(arm.name for arm in arms), "starved")]
    for name in names:
        found = [arm.metrics.get(name) for arm in arms]
        known = next(metric for metric in found if metric)
        rows.append((f"{name} {known.unit}".rstrip(), *map(_range, found), known.limit))
    return ["", Table(rows)]


def _range(metric: MetricRange | None) -> str:
    """`331 (12.6 to 759)`."""
    return f"{metric.median:.4g} ({metric.min:.4g} to {metric.max:.4g})" if metric else "-"


def _sequential_lines(found: SequentialFacts) -> list[str]:
    """Why it ended when it did, and what its numbers are worth."""
    return [
        f"  ended after {found.stopped_after} of at most {found.most} trials: e-value {found.e_value:.3g}, "
        f"{1.0 / found.error:g} is enough (error {found.error:g})",
        "  the intervals hold whenever one stops, so they are wider than those of a fixed number of trials",
    ]


def _proof_line(arm: ArmResult) -> str:
    """How many hangs were proven, and how soon."""
    counts, times = arm.proofs, arm.onset_to_verdict_s
    text = f"proof: a cycle of waiters in {counts['cycle']} of {sum(counts.values())} hangs"
    if counts["partial"]:
        text += f", with gaps in {counts['partial']}"
    if times:
        text += f"; onset to verdict {times.median:.1f} s (median), {times.max:.1f} s (worst)"
    return text


def trial_lines(trial: TrialResult, folder: str) -> list[Part]:
    """One trial's end, for a person. folder: where it says that the evidence is."""
    lines = [f"outcome: {trial.kind}", f"  {trial.title}"]
    if trial.signature:
        own = " (the bug of this scenario)" if trial.is_bug else ""
        lines.append(f"  signature: {trial.signature}{own}")
    if trial.proof:
        lines.append(f"  proof: {trial.proof}")
    return [
        *lines,
        *(f"    {line}" for line in trial.cycle),
        *splat_lines(trial.splat),
        Whole("  evidence: ", folder),
    ]


def _run(result: Result, trials: Sequence[TrialResult], folder: Path) -> list[Part]:
    try:
        trial = TrialResult.from_json(result)
    except ValueError as error:
        raise UserError(f"{folder / RECORD} is damaged: {error}") from error
    return trial_lines(trial, str(folder / trial.folder))


def _selftest(result: Result, trials: Sequence[TrialResult], folder: Path) -> list[Part]:
    done = read_as(SelftestResult, result, f"{folder / RECORD}: result")
    good = sum(case.as_expected for case in done.cases)
    lines: list[Part] = [f"selftest: {good} of {len(done.cases)} as expected"]
    for case in done.cases:
        if not case.as_expected:
            lines += [
                f"  {case.name}: {case_words(case.reported)} instead of {case_words(case.expected)}",
                f"    {case.title}",
                Whole("    ", str(folder / "trials" / Path(case.evidence).name)),
            ]
    lines += [f"  {name}: only on kernels {done.only_on.get(name, '')}, not run" for name in done.skipped]
    return [*lines, Whole("  evidence: ", str(folder)), f"  took {elapsed(done.seconds)}"]


def case_words(what: Reported) -> str:
    """`soft_lockup`; with the console's word where it is another, and the CPU that has to be right."""
    console = f" (console: {what.console})" if what.console not in (None, str(what.outcome)) else ""
    return f"{what.outcome}{console}" + (f" CPU {what.cpu}" if what.cpu is not None else "")


def _bisect(result: Result, trials: Sequence[TrialResult], folder: Path) -> list[Part]:
    """The culprit, how sure that is, the table, the evidence of one failure, and where everything is."""
    done = read_as(BisectResult, result, f"{folder / RECORD}: result")
    head = ("kernel", "trials", "bug", "verdict", "had in", "")
    lines: list[Part] = [*_headline(done), ""]
    lines.append(Table([head, *(tested_row(done, kernel) for kernel in done.tested)]))
    guest = f", {done.boot.cpus} CPUs, preempt={done.boot.preempt}" if done.boot else ""
    lines += [
        "",
        f"  scenario {_settings(done.scenario, done.set)}{guest}",
        *(f"  patched  {patch}" for patch in done.patches),
        f"  cost     {done.builds} kernels built, {sum(kernel.trials for kernel in done.tested)} trials, "
        f"{elapsed(done.seconds)}",
    ]
    shown = next((trial for trial in trials if trial.folder == done.shown), None)
    if shown:
        lines += ["", *_shown(shown)]
    kept = {"git bisect log": done.git_bisect_log, "regression": done.regression}
    return [
        *lines,
        "",
        Whole("  evidence     ", str(folder)),
        *(Whole(f"  {name:12} ", str(folder / Path(path).name)) for name, path in kept.items() if path),
        Whole("  again        ", done.reproduce),
    ]


def _headline(done: BisectResult) -> list[Part]:
    if done.confidence is None:
        return ["culprit: none", f"  {done.reason}", *([f"  {done.hint}"] if done.hint else [])]
    labels = [done.labels.get(name, name) for name in done.suspects]
    how = Prose(f"confidence {done.confidence:.4g}: {done.reason}")
    if done.culprit is None:
        hint = "  to tell them apart, mend what keeps them from being tested (--patch), or leave --path out"
        return [
            f"culprit: one of {len(labels)}; those between cannot be tested",
            *(f"  {label}" for label in labels),
            how,
            hint,
        ]
    return [f"culprit: {labels[0]}", how, *([Prose(done.checks)] if done.checks else [])]


def tested_row(done: BisectResult, kernel: TestedKernel) -> tuple[str, ...]:
    """A kernel of a bisection as tables show it: name, trials, with the bug, verdict, had in, title."""
    reason = f": {kernel.reason.splitlines()[0]}" if kernel.reason else ""
    had = "cache" if kernel.cached else f"{kernel.build_s:.0f} s"
    ends = {done.good: "good end: ", done.bad: "bad end: "}
    name = arm_of(kernel.commit)
    title = f"{ends.get(kernel.commit, '')}{kernel.title.removeprefix(name).strip()}"
    return (name, str(kernel.trials), str(kernel.reproduced), kernel.verdict, had, f"{title}{reason}")


def _matrix(result: Result, trials: Sequence[TrialResult], folder: Path) -> list[Part]:
    done = read_as(MatrixResult, result, f"{folder / RECORD}: result")
    return matrix_parts(done, folder)


def _nightly(result: Result, trials: Sequence[TrialResult], folder: Path) -> list[Part]:
    return night_parts(read_as(NightResult, result, f"{folder / RECORD}: result"))


_TEXTS: Mapping[str, Callable[[Result, Sequence[TrialResult], Path], Sequence[Part]]] = {
    "compare": _compare,
    "run": _run,
    "bisect": _bisect,
    "selftest": _selftest,
    "matrix": _matrix,
    "nightly": _nightly,
}
#: The verbs whose reports are known.
REPORTED = tuple(_TEXTS)
