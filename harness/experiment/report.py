# SPDX-License-Identifier: GPL-2.0-only
"""A comparison as one JSON object, and as the text a person posts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from statistics import median
from typing import Any, get_args

from harness.display import elapsed
from harness.experiment.compare import Comparison
from harness.experiment.sequential import interval_at_any_time
from harness.experiment.statistics import Interval, Sequential
from harness.experiment.trial import kernel_json
from harness.results.runfolder import SCHEMA, TrialResult
from harness.watch.examination import Proof
from harness.watch.kinds import HANGS

#: Lines of a splat shown at the end of a comparison, and those that a reader of a report skips.
SHOWN_SPLAT = 20
_NOISE = re.compile(r"(Code|R[0-9A-Z]{2}|FS|CS|CR2|DR\d|Modules linked in|Tainted|PKRU): ?| \? ")


def comparison_json(done: Comparison, seconds: float) -> dict[str, Any]:
    """The object that `compare --json` prints; its keys are a promise."""
    return {
        "schema": SCHEMA,
        "verdict": str(done.verdict.kind),
        "reason": done.verdict.reason,
        "scenario": done.experiment.scenario,
        "set": dict(done.experiment.set),
        "arms": [_arm_json(done, name) for name in done.experiment.arms],
        "p_value": done.verdict.p_value,
        "sequential": _sequential_json(done),
        "evidence": [str(done.folder / result.folder) for result in done.results],
        "repro": str(done.folder / "repro"),
        "seconds": round(seconds, 1),
        "reproduce": done.reproduce,
    }


def _sequential_json(done: Comparison) -> dict[str, Any] | None:
    if not done.sequential:
        return None
    return {
        "error": done.sequential.error,
        "e_value": done.sequential.e_value,
        "stopped_after": len(done.results),
    }


def _ci95(done: Comparison, name: str) -> Interval:
    """The exact interval, or one that holds however often somebody looked before the trials were ended."""
    counted = done.tallies[name]
    return interval_at_any_time(counted.reproduced, counted.answered) if done.sequential else counted.ci95


def _arm_json(done: Comparison, name: str) -> dict[str, Any]:
    counted = done.tallies[name]
    results = done.of(name)
    boot = done.experiment.boot.model_dump(mode="json")
    return {
        "name": name,
        "role": done.experiment.arms[name].role,
        "kernel": {"name": done.experiment.arms[name].kernel, **kernel_json(done.kernels[name].build)},
        "boot": {
            **boot,
            "machine": done.stage.machine,
            "accel": done.stage.accel,
            # What the running kernel said, which every trial checks against what was asked for.
            "preempt": next((result.preempt for result in results if result.preempt), boot["preempt"]),
        },
        "trials": counted.trials,
        "answered": counted.answered,
        "outcomes": {str(kind): count for kind, count in counted.outcomes},
        "reproduced": counted.reproduced,
        "windows": counted.windows,
        "rate": counted.rate,
        "ci95": list(astuple(_ci95(done, name))),
        "proofs": proofs(results),
        "onset_to_verdict_s": onset_to_verdict(results),
    }


def proofs(results: Sequence[TrialResult]) -> dict[str, int]:
    """How many of the hangs were proven by a cycle of waiters, by one with gaps, and not at all."""
    counts = Counter(result.proof or "none" for result in _hangs(results))
    return {proof: counts[proof] for proof in get_args(Proof)}


def onset_to_verdict(results: Sequence[TrialResult]) -> dict[str, float] | None:
    """Seconds from the last moment any counter moved to the outcome, over all hangs; None without one."""
    times = [
        result.decided_s - result.onset_s
        for result in _hangs(results)
        if result.decided_s is not None and result.onset_s is not None
    ]
    if not times:
        return None
    return {"median": round(median(times), 3), "max": round(max(times), 3)}


def _hangs(results: Sequence[TrialResult]) -> list[TrialResult]:
    return [result for result in results if result.kind in HANGS]


def comparison_text(done: Comparison, seconds: float) -> str:
    """The verdict, the table, what was enabled, the splat's first lines, and where everything is."""
    lines = ["", f"verdict: {done.verdict.kind}", f"  {done.verdict.reason}", ""]
    head = ("arm", "kernel", "trials", "bug", "rate", "95 % interval", "windows", "outcomes")
    rows = [head, *(_arm_row(done, name) for name in done.experiment.arms)]
    lines += [f"  {line}" for line in aligned(rows)]
    if done.verdict.p_value is not None:
        lines.append(f"  Fisher's exact p (two-sided): {done.verdict.p_value:.2g}")
    if done.sequential:
        lines += _sequential_lines(done, done.sequential)
    build = next(iter(done.kernels.values())).build
    boot = done.experiment.boot
    lines += [
        "",
        f"  tree     {build.tree}",
        f"  guest    {done.stage.machine} on {done.stage.accel}, {boot.cpus} CPUs, preempt={boot.preempt}, "
        + (f"watchdog_thresh={boot.watchdog_thresh_s}" if boot.clock == "host" else "virtual clock"),
        "  scenario "
        + " ".join(
            [done.experiment.scenario, *(f"{name}={value}" for name, value in done.experiment.set.items())]
        ),
    ]
    for name in done.experiment.arms:
        for patch in done.kernels[name].build.patches:
            note = f" ({patch.note})" if patch.note else ""
            lines.append(f"  {name:8} {patch.role}: {patch.name}, {patch.status}{note}")
    # On the virtual clock nobody looks into a guest: its own watchdogs report.
    for name in done.experiment.arms if boot.clock == "host" else ():
        if _hangs(done.of(name)):
            lines.append(f"  {name:8} {_proof_line(done.of(name))}")
    told = [result for result in done.results if result.cycle or result.splat]
    shown = next((result for result in told if result.is_bug), next(iter(told), None))
    if shown:
        lines += ["", f"  {shown.arm}, trial {shown.index} (all of it in {shown.folder}):"]
        lines += evidence_lines(shown)
    lines += [
        "",
        f"  evidence     {done.folder}",
        f"  without us   {done.folder}/repro/run.sh (needs QEMU only)",
        f"  again        {done.reproduce}",
        f"  took         {elapsed(seconds)}",
    ]
    return "\n".join(lines)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of one length as lines whose columns are flush."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _sequential_lines(done: Comparison, sequential: Sequential) -> list[str]:
    """Why it ended when it did, and what its numbers are worth."""
    most = done.experiment.trials * len(done.experiment.arms)
    return [
        f"  ended after {len(done.results)} of at most {most} trials: e-value {sequential.e_value:.3g}, "
        f"{1.0 / sequential.error:g} is enough (error {sequential.error:g})",
        "  the intervals hold whenever one stops, so they are wider than those of a fixed number of trials",
    ]


def _proof_line(results: Sequence[TrialResult]) -> str:
    """How many hangs were proven, and how soon."""
    counts, times = proofs(results), onset_to_verdict(results)
    text = f"proof: a cycle of waiters in {counts['cycle']} of {len(_hangs(results))} hangs"
    if counts["partial"]:
        text += f", with gaps in {counts['partial']}"
    if times:
        text += f"; onset to verdict {times['median']:.1f} s (median), {times['max']:.1f} s (worst)"
    return text


def evidence_lines(result: TrialResult) -> list[str]:
    """The cycle, and below it what the console said."""
    lines = [f"    {line}" for line in result.cycle]
    if result.cycle and result.signature:
        lines.append(f"    signature: {result.signature}")
    return lines + _splat_lines(result.splat)


def _splat_lines(splat: Sequence[str]) -> list[str]:
    """The lines that name task, place and stack; registers and the unwinder's guesses are left to the log."""
    return [f"    {line}" for line in _telling(splat)][:SHOWN_SPLAT]


def _telling(splat: Sequence[str]) -> Iterator[str]:
    for number, line in enumerate(splat):
        if line.lstrip().startswith("entry_SYSCALL"):
            yield line
            return
        kernel_ip = line.startswith("RIP: 0010") and number < 10
        if kernel_ip or not (_NOISE.match(line) or line.startswith("RIP")):
            yield line


def _arm_row(done: Comparison, name: str) -> tuple[str, ...]:
    counted, interval = done.tallies[name], _ci95(done, name)
    return (
        name,
        done.experiment.arms[name].label,
        str(counted.trials),
        str(counted.reproduced),
        "-" if counted.rate is None else f"{counted.rate:.2f}",
        f"{interval.low:.2f} to {interval.high:.2f}",
        str(counted.windows),
        ", ".join(f"{count} {kind}" for kind, count in counted.outcomes),
    )


def trial_json(result: TrialResult, folder: str) -> dict[str, Any]:
    """The object that `run --json` prints."""
    return {"schema": SCHEMA, **result.as_json(), "evidence": folder}


def trial_text(result: TrialResult, folder: str) -> str:
    """One trial's end, for a person."""
    lines = ["", f"outcome: {result.kind}", f"  {result.title}"]
    if result.signature:
        lines.append(
            f"  signature: {result.signature}{' (the bug of this scenario)' if result.is_bug else ''}"
        )
    if result.proof:
        lines.append(f"  proof: {result.proof}")
    lines += [f"    {line}" for line in result.cycle]
    lines += _splat_lines(result.splat)
    lines.append(f"  evidence: {folder}")
    return "\n".join(lines)
