# SPDX-License-Identifier: GPL-2.0-only
"""What init and the stressor say on the agent's channel: one JSON object a line, the same on every target.

Fields that are not known here are kept in `model_extra`, kinds that are not known as `UnknownMessage`: an
older harness reads a newer guest. Anything else is `Garbage`; nothing a guest says raises.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError

#: What the stressor exits with when it found something wrong, but no changed data (stressor.h, EXIT_CHECK).
CHECK_FAILED = 4
#: The version of this protocol that init announces in its `hello`.
PROTOCOL = 1
_SHOWN = 200


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", strict=True, populate_by_name=True)


class Hello(_Message):
    """Init runs; sent before anything else."""

    type: Literal["hello"]
    protocol: int
    #: CLOCK_MONOTONIC of the guest, s; so in every message.
    t: float
    release: str
    #: The effective preemption model (/sys/kernel/debug/sched/preempt): none, voluntary, full, lazy, unknown.
    preempt: str
    cpus: int
    version: str = ""
    machine: str = ""
    page_size: int = 0
    mem_kb: int = 0
    thp: str = ""
    cmdline: str = ""
    #: Guest time that `calibration_loops` rounds of a fixed loop took, ms; 0: not measured.
    calibration_ms: float = 0.0
    calibration_loops: int = 0


class ModuleMessage(_Message):
    """A module was loaded; `text` is where its code begins, in hexadecimal; 0: the kernel hides it."""

    type: Literal["module"]
    t: float = 0.0
    name: str
    text: Annotated[str, Field(pattern="^(?:0x)?[0-9a-fA-F]{1,16}$")] = "0"

    @property
    def address(self) -> int:
        """The first address of its text."""
        return int(self.text, 16)


class Start(_Message):
    """The stressor has its parameters and begins."""

    type: Literal["start"]
    t: float = 0.0
    scenario: str
    parameters: dict[str, int | str] = {}


class ThreadCount(_Message):
    """How often a thread of the stressor has gone round."""

    name: str
    count: int


class OpenWindow(_Message):
    """The window of the iteration that runs: in a hang, all that will ever be known of it."""

    open: bool
    hit: bool


class ProgressMessage(_Message):
    """About ten times a second while the guest is alive, whether or not anything moves."""

    type: Literal["progress"]
    t: float
    iteration: int
    #: What the stressor is at within the iteration.
    phase: str = ""
    threads: tuple[ThreadCount, ...] = ()
    window: OpenWindow | None = None


class Window(_Message):
    """Whether all conditions of the bug met in an iteration, and which did not."""

    hit: bool
    missing: tuple[str, ...] = ()


class Iteration(_Message):
    """One iteration is over and every page's content was right."""

    type: Literal["iteration"]
    t: float
    #: From 0.
    n: int
    window: Window | None = None
    #: Pages.
    migrated: int = 0
    faults: int = 0
    seconds: float = 0.0


class Ktap(_Message):
    """A line that a suite of tests said."""

    type: Literal["ktap"]
    t: float = 0.0
    line: str


class IgtLine(_Message):
    """A line that igt_runner said."""

    type: Literal["igt"]
    t: float = 0.0
    line: str
    #: On its standard error.
    errors: bool = False


class IgtResults(_Message):
    """A piece of the results.json that igt_runner left, its bytes as Latin-1."""

    type: Literal["igt_results"]
    t: float = 0.0
    text: str
    #: Bytes that are still to come.
    left: int


class ProgramEnd(_Message):
    """How a program ended that the stressor ran."""

    status: int
    #: 0: it ended by itself.
    signal: int = 0


class End(_Message):
    """The stressor is done; totals."""

    type: Literal["end"]
    t: float
    iterations: int
    windows: int = 0
    #: What the stressor is going to exit with.
    status: int = 0
    #: What the scenario measured, by name; units are in its catalogue entry. Not what there was nothing of.
    metrics: dict[str, float] = {}
    #: Of a scenario that runs another program: how that ended.
    program: ProgramEnd | None = None


class Exit(_Message):
    """A program that init started has ended."""

    type: Literal["exit"]
    t: float = 0.0
    path: str
    status: int
    #: 0: it ended by itself.
    signal: int = 0


class ErrorMessage(_Message):
    """Something in the guest did not work: a step of the plan, or the stressor's environment."""

    type: Literal["error"]
    t: float = 0.0
    what: str
    #: The guest's `errno`, 0 if there was none.
    number: int = Field(default=0, alias="errno")
    text: str = ""


class Corruption(_Message):
    """A page did not hold what was written to it; where and what is in `model_extra`."""

    type: Literal["corruption"]
    t: float = 0.0


class UnknownMessage(_Message):
    """A well-formed message of a kind this harness does not know."""

    type: str


class Garbage(BaseModel):
    """A line that is no message."""

    model_config = ConfigDict(frozen=True)

    text: str
    why: str


Message = (
    Hello
    | ModuleMessage
    | Start
    | ProgressMessage
    | Iteration
    | Ktap
    | IgtLine
    | IgtResults
    | End
    | Exit
    | ErrorMessage
    | Corruption
    | UnknownMessage
)  # fmt: skip

_KINDS = {
    "hello", "module", "start", "progress", "iteration", "ktap", "igt", "igt_results", "end", "exit", "error",
    "corruption",
}  # fmt: skip


def _kind(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else None
    return kind if isinstance(kind, str) and kind in _KINDS else "unknown"


_ADAPTER: TypeAdapter[Message] = TypeAdapter(
    Annotated[
        Annotated[Hello, Tag("hello")]
        | Annotated[ModuleMessage, Tag("module")]
        | Annotated[Start, Tag("start")]
        | Annotated[ProgressMessage, Tag("progress")]
        | Annotated[Iteration, Tag("iteration")]
        | Annotated[Ktap, Tag("ktap")]
        | Annotated[IgtLine, Tag("igt")]
        | Annotated[IgtResults, Tag("igt_results")]
        | Annotated[End, Tag("end")]
        | Annotated[Exit, Tag("exit")]
        | Annotated[ErrorMessage, Tag("error")]
        | Annotated[Corruption, Tag("corruption")]
        | Annotated[UnknownMessage, Tag("unknown")],
        Discriminator(_kind),
    ]
)


def parse_line(text: str) -> Message | Garbage:
    """The message in a line of the agent's channel. Never raises."""
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"][1:])
        return Garbage(text=text[:_SHOWN], why=f"{place}: {first['msg']}" if place else first["msg"])
