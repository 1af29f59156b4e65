# SPDX-License-Identifier: GPL-2.0-only
"""Kernel stacks: of sleeping tasks from their own, of running ones from their CPU's registers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import drgn

from harness.diagnose.facts import Frame
from harness.diagnose.image import UNREADABLE
from harness.diagnose.tasks import KERNEL_HALF, KernelTask, Source

#: struct pt_regs (arch/x86/include/asm/ptrace.h) by QEMU's names.
_PT_REGS = {
    "r15": "R15", "r14": "R14", "r13": "R13", "r12": "R12", "bp": "RBP", "bx": "RBX", "r11": "R11",
    "r10": "R10", "r9": "R9", "r8": "R8", "ax": "RAX", "cx": "RCX", "dx": "RDX", "si": "RSI", "di": "RDI",
    "ip": "RIP", "sp": "RSP",
}  # fmt: skip
#: A stack is 16 KiB: one that is longer than this goes in circles.
_FRAME_LIMIT = 256


@dataclass(frozen=True)
class Stack:
    """A task with the frames of its stack, innermost first, for looking at its variables."""

    task: KernelTask
    frames: tuple[drgn.StackFrame, ...]

    @property
    def pid(self) -> int:
        """Whose it is."""
        return self.task.fact.pid

    def find(self, *names: str) -> tuple[int, drgn.StackFrame] | None:
        """The innermost frame of one of these functions, and its number."""
        for number, frame in enumerate(self.frames):
            if frame.name in names:
                return number, frame
        return None


def read_stack(source: Source, task: KernelTask) -> Stack:
    """The stack of a task; no frames if it is in user mode or cannot be read (a gap)."""
    fact = task.fact
    try:
        trace = _trace(source, task)
        frames = tuple(trace)[:_FRAME_LIMIT] if trace else ()
    except UNREADABLE as error:
        source.miss(f"the stack of {fact.name}", error)
        frames = ()
    # What has no name is the end of the stack, or user mode.
    return Stack(task, tuple(frame for frame in frames if not frame.name.startswith(("0x", "???"))))


def frame_facts(source: Source, stack: Stack) -> tuple[Frame, ...]:
    """The frames as plain values."""
    root = _source_root(source)
    return tuple(_frame(frame, root) for frame in stack.frames)


def local(frame: drgn.StackFrame, *names: str) -> drgn.Object | None:
    """The first of a frame's variables by these names that the compiler kept, read; None without one."""
    for name in names:
        try:
            value = frame[name]
            if not value.absent_:
                return value.read_()
        except UNREADABLE:
            continue
    return None


def locals_of(frame: drgn.StackFrame) -> Iterator[tuple[str, drgn.Object]]:
    """All variables of a frame that the compiler kept. Those in memory are not read yet."""
    try:
        names = frame.locals()
    except UNREADABLE:
        return
    for name in names:
        try:
            value = frame[name]
        except UNREADABLE:
            continue
        if not value.absent_:
            yield name, value


def _trace(source: Source, task: KernelTask) -> drgn.StackTrace | None:
    registers: Mapping[str, int] | None = (source.image.registers or {}).get(task.fact.cpu)
    if not task.fact.on_cpu or registers is None:
        return source.prog.stack_trace(task.object)
    if registers.get("RIP", 0) < KERNEL_HALF:
        return None
    values = {name: registers[theirs] for name, theirs in _PT_REGS.items()}
    return source.prog.stack_trace(drgn.Object(source.prog, "struct pt_regs", values))


def _frame(frame: drgn.StackFrame, root: str) -> Frame:
    try:
        file, line, _ = frame.source()
    except UNREADABLE:
        file, line = "", 0
    return Frame(str(frame.name), _relative(file, root), line, bool(frame.is_inline))


def _relative(path: str, root: str) -> str:
    if root and path.startswith(root):
        return path[len(root) :]
    return path.removeprefix("./") if path.startswith("./") else path.rpartition("/")[2]


def _source_root(source: Source) -> str:
    """Where the kernel was built, by the place of start_kernel()."""
    known = source.prog.cache.get("harness_source_root")
    if known is None:
        try:
            file = source.prog.source_location(source.prog["start_kernel"].address_)[0].filename
        except (*UNREADABLE, IndexError):
            file = ""
        known = file.removesuffix("init/main.c") if file.endswith("init/main.c") else ""
        source.prog.cache["harness_source_root"] = known
    return str(known)
