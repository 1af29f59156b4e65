# SPDX-License-Identifier: GPL-2.0-only
"""The files of a run's folder as models: `run.json` of a run and of a trial, and the lines of its logs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from harness.results.matrix import MatrixResult
from harness.results.night import DetectorFacts, NightCell, NightResult, UnitFacts
from harness.results.runfolder import TrialResult
from harness.results.schema import (
    BisectResult,
    BootFacts,
    CompareResult,
    Facts,
    KernelFacts,
    Record,
    SelftestResult,
)
from harness.watch.ktap import Report

RunState = Literal["building", "running", "finished", "interrupted", "failed"]


class _Run(Record):
    """What `run.json` of every run holds. It is there from the start, and replaced in one step."""

    state: RunState
    """`running` of a run that nobody is at any more: it was killed. `error` says why one `failed`."""
    id: str = ""
    """Stays the same when the folder is moved."""
    begun: str = ""
    ended: str | None = None
    """UTC, as 2026-11-29T08:00:00.123456Z."""
    version: str = ""
    """Of hmm-harness."""
    cwd: str = ""
    """Where the command was given: `reproduce` may name files relative to it."""
    reproduce: str
    """The command that does it again."""
    rerun_of: str | None = None
    """The folder of the run that was asked to be repeated."""
    error: str | None = None
    tree: str = ""
    """Where the source is from, in words."""
    pruned: str | None = None
    """When the evidence was removed, UTC."""


class CompareRun(_Run):
    """`run.json` of `compare`."""

    verb: Literal["compare"]
    result: CompareResult | None = None


class TrialRun(_Run):
    """`run.json` of `run`: the result is the trial's."""

    verb: Literal["run"]
    kernel: str
    """Its name in the experiment."""
    result: TrialResult | None = None


class BisectRun(_Run):
    """`run.json` of `bisect`."""

    verb: Literal["bisect"]
    key: str
    """Names the question: the same question goes on where it was ended."""
    result: BisectResult | None = None


class SelftestRun(_Run):
    """`run.json` of `selftest`."""

    verb: Literal["selftest"]
    kernel: str
    result: SelftestResult | None = None


class MatrixRun(_Run):
    """`run.json` of `matrix`."""

    verb: Literal["matrix"]
    seconds: float
    """What it took by now, over all starts."""
    result: MatrixResult | None = None


class NightlyRun(_Run):
    """`run.json` of `nightly`."""

    verb: Literal["nightly"]
    key: str
    """Names the night: the same file and the same trees in the same night go on where they were ended."""
    detectors: DetectorFacts | None = None
    """These three as far as the night came; `result` has all of it."""
    units: tuple[UnitFacts, ...] = ()
    cells: tuple[NightCell, ...] = ()
    seconds: float = 0.0
    """What it took by now, over all starts."""
    result: NightResult | None = None
    unheard: tuple[str, ...] = ()
    """What went wrong when people and programs were told."""


AnyRun = Annotated[
    CompareRun | TrialRun | BisectRun | SelftestRun | MatrixRun | NightlyRun, Field(discriminator="verb")
]


class FileOfCache(Facts):
    """A file by its entry in the cache."""

    entry: str
    file: str
    debug: str | None = None


class Provenance(Facts):
    """What decided a boot, and by version or SHA-256 what it was carried out with."""

    qemu: str
    """Its version; empty of a box."""
    kernel: FileOfCache
    kernel_sha256: str
    initramfs_sha256: str
    module: FileOfCache
    module_sha256: str
    argv: tuple[str, ...]
    """QEMU's, without the places of files."""
    boot: dict[str, Any]


class StepFacts(Facts):
    """Something that was done to a box around a trial."""

    host_s: float
    """When it began, s since power-on; before it, negative."""
    name: str
    ok: bool
    detail: str
    """What was learned."""
    seconds: float


class TrialFile(Record):
    """`run.json` of a trial."""

    state: Literal["running", "finished", "interrupted", "failed"]
    begun: str = ""
    ended: str | None = None
    """UTC, as 2026-11-29T08:00:00.123456Z."""
    arm: str
    """The arm of a comparison, the kernel of a run or bisection, the case of a self-test."""
    index: int
    """From 1 in each arm."""
    seed: int
    scenario: str
    parameters: dict[str, int | str]
    """All of the scenario's."""
    kernel: KernelFacts
    fingerprint: str
    """Two trials with one fingerprint ran the same kernel, module and stressor."""
    boot: BootFacts
    command: str
    """Repeats this trial alone."""
    provoke: str | None = None
    """The case of a self-test."""
    provenance: Provenance | None = None
    box: tuple[StepFacts, ...] = ()
    """Of a box: how it was put right, given the kernel and brought back, in order."""
    result: TrialResult | None = None
    error: str | None = None
    pruned: str | None = None
    """When the evidence was removed, UTC."""


class AgentLineFacts(Facts):
    """A line of `agent.jsonl`: what init or the stressor said."""

    host_s: float
    """When it came, s since power-on."""
    line: str
    """A message as harness/guest/protocol.py describes it; garbage is kept as it came."""


class SampleLine(Facts):
    """A line of `samples.jsonl`: what QEMU's monitor said of the CPUs, or that a box could be heard."""

    host_s: float
    running: bool
    cpus: tuple[tuple[int, str, int, bool, float, float], ...]
    """CPU, RIP in hexadecimal, CPL, halted, CPU time of its thread and the time it waited for one, s.

    Of a box none: `running` says whether it could be heard.
    """


class ExaminationLine(Facts):
    """A line of `examinations.jsonl`: a look into the guest's frozen memory."""

    host_s: float
    since_s: float
    """The last sign of progress before, s since power-on."""
    proof: Literal["cycle", "partial", "none"]
    title: str
    frames: tuple[str, ...]
    """The spinner's functions, innermost first."""
    text: tuple[str, ...]
    gaps: tuple[str, ...]
    """What is missing between `partial` and `cycle`."""
    entry: str = ""
    """Which page table entry the spinner faults on, as in `device private (PMD)`; empty: none is known."""


#: The shipped JSON Schema files, and what each describes.
DOCUMENTS: Mapping[str, TypeAdapter[Any]] = {
    "run": TypeAdapter(AnyRun),
    "trial": TypeAdapter(TrialFile),
    "agent-line": TypeAdapter(AgentLineFacts),
    "sample-line": TypeAdapter(SampleLine),
    "examination-line": TypeAdapter(ExaminationLine),
    # box.jsonl: the same, as it happened.
    "step-line": TypeAdapter(StepFacts),
    # tests.json: what a suite of tests said, case by case.
    "tests": TypeAdapter(Report),
}
