# SPDX-License-Identifier: GPL-2.0-only
"""The call traces of a report: x86 (arch/x86/kernel/dumpstack.c), arm64 (arch/arm64/kernel/stacktrace.c)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_FRAME = re.compile(r"^\s*(?P<guess>\? )?(?P<name>[A-Za-z_][\w.$]*)\+0x[0-9a-f]+/0x[0-9a-f]+")
_ADDRESS = re.compile(r"^\s*(?:\? )?(?:\[<)?(?:0x)?[0-9a-f]{8,16}\b")
_IP = re.compile(r"^(?:RIP: 0010:|pc : )(?P<name>[A-Za-z_][\w.$]*)\+0x[0-9a-f]+/0x[0-9a-f]+")
_REGISTERS = re.compile(
    r"^\s*(?:RIP|RSP|RAX|RDX|RBP|R10|R13|FS|CS|CR2|CR3|DR0|DR3|ORIG_RAX|PKRU|Code|lr|sp|x\d+|pstate) ?:|^\s*$"
)
_MARKER = re.compile(r"^\s*</?(?:[A-Z_]+\d?|#[A-Z]+\d*)>$")
#: The second begins what kmemleak prints (mm/kmemleak.c): where the object was allocated.
_BEGIN = re.compile(r"^Call [Tt]race:|^ +backtrace \(crc [0-9a-f]+\):")
_END = re.compile(r"^\s*</TASK>|^---\[ end ")
_SECOND_HAND = re.compile(
    r"^(?:rcu: )?(?:RCU grace-period kthread stack dump|Stack dump where RCU GP kthread last ran):"
)
_NMI = re.compile(r"^NMI backtrace for cpu (?P<cpu>\d+)$")
_CPU = re.compile(
    r"^CPU: (?P<cpu>\d+) (?:UID: \d+ )?PID: (?P<pid>\d+) Comm: (?P<comm>.*?) "
    r"(?:Kdump: loaded )?(?:Not tainted|Tainted:)"
)
_TASK = re.compile(r"^task:(?P<comm>.*?) +state:.*? pid:(?P<pid>\d+)")
#: What a compiler appends to the name of a function it split or cloned.
SUFFIX = re.compile(r"\.(?:isra|constprop|part|cold|llvm|lto_priv)\b.*$")

#: Frames of a trace that are kept.
MAX_FRAMES = 64


@dataclass
class Stack:
    """One call trace: the functions from the innermost on, and whose it is."""

    cpu: int | None = None
    task: str | None = None
    nmi: bool = False
    second_hand: bool = False
    frames: list[str] = field(default_factory=list)

    def push(self, name: str) -> None:
        """Add the next function outwards, without what the compiler appended to its name."""
        if len(self.frames) < MAX_FRAMES:
            self.frames.append(SUFFIX.sub("", name))


@dataclass
class StackReader:
    """Follows the lines of one report and collects its call traces."""

    stacks: list[Stack] = field(default_factory=list)
    #: A trace has been read to its end.
    ended: bool = False
    _tracing: bool = False
    #: The trace has `<TASK>` or the like around it, so its end will be marked too.
    _marked: bool = False
    #: What comes next belongs to another trace than what came before.
    _fresh: bool = True
    _second_hand: bool = False

    def read(self, text: str) -> bool:
        """Take one line in; False if it comes after the end of the trace that was being read."""
        if _END.search(text):
            self._finish()
        elif _SECOND_HAND.search(text):
            self._second_hand = self._fresh = True
        elif nmi := _NMI.match(text):
            self._fresh = True
            stack = self._stack()
            stack.cpu, stack.nmi = int(nmi["cpu"]), True
        elif found := _CPU.match(text) or _TASK.match(text):
            self._fresh = self._fresh or self._tracing
            self._tracing = False
            stack = self._stack()
            stack.task = f"{found['comm']}:{found['pid']}"
            if found.re is _CPU:
                stack.cpu = int(found["cpu"])
        elif _BEGIN.match(text):
            self._fresh = self._fresh or self._tracing
            self._tracing, self._marked = True, False
            self._stack()
        elif pointer := _IP.match(text):
            self._stack().push(pointer["name"])
        elif self._tracing:
            return self._read_frame(text)
        return True

    def _read_frame(self, text: str) -> bool:
        if _MARKER.match(text):
            self._marked = True
            return True
        frame = _FRAME.match(text)
        if frame:
            # arm64 prints the function of `pc` again as the first of its trace.
            repeated = not self._marked and self._stack().frames == [SUFFIX.sub("", frame["name"])]
            if not frame["guess"] and not repeated:
                self._stack().push(frame["name"])
            return True
        if self._marked or _ADDRESS.match(text) or _REGISTERS.match(text):
            return True
        self._finish()
        return False

    def _stack(self) -> Stack:
        if self._fresh:
            self.stacks.append(Stack(second_hand=self._second_hand))
            self._fresh = self._second_hand = False
        return self.stacks[-1]

    def _finish(self) -> None:
        self.ended = True
        self._tracing = False
        self._fresh = True

    @property
    def main(self) -> Stack:
        """The trace that tells the most: what the stuck CPU ran, else the first of the report's own."""
        full = [stack for stack in self.stacks if stack.frames] or self.stacks
        own = [stack for stack in full if not stack.second_hand] or full
        stuck = [stack for stack in own if stack.nmi] or own
        return stuck[0] if stuck else Stack()
