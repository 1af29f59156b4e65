# SPDX-License-Identifier: GPL-2.0-only
"""What is kept of a guest that did not complete: all that can still be had, and what could not be."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.deadline import Deadline
from harness.diagnose.diagnosis import Diagnosis, diagnose
from harness.diagnose.facts import TaskFact
from harness.diagnose.image import UNREADABLE, SymbolFiles, open_live, open_vmcore
from harness.diagnose.read import read_all_stacks
from harness.diagnose.svg import cycle_svg
from harness.diagnose.text import cycle_text
from harness.disk import disk_errors, write_atomically
from harness.errors import HarnessError
from harness.interrupts import interrupts_deferred
from harness.target.protocol import Guest, GuestEnded, Registers, Sample
from harness.target.recording import CONSOLE, replay
from harness.watch.histogram import histogram, histogram_text
from harness.watch.symbols import SymbolTable

#: In a trial's folder.
FOLDER = "evidence"
MANIFEST = "evidence.json"
#: In there: what a box's kdump left.
VMCORE = "vmcore"
#: What drivers/tty/sysrq.c prints before the answer to a key.
_SYSRQ = {
    "l": b"sysrq: Show backtrace of all active CPUs",
    "w": b"sysrq: Show Blocked State",
    "t": b"sysrq: Show State",
}
_NMI_SAYS = b"NMI"


@dataclass(frozen=True)
class Limits:
    """What the evidence may cost."""

    #: To read the stacks of all tasks, s.
    stacks_s: float = 2.0
    #: To wait for the answer to one SysRq key or the NMI, s.
    answer_s: float = 0.5
    #: An answer is over when the console has been silent for so long, s.
    quiet_s: float = 0.04
    #: To write an image of the memory, s; 0: none is written.
    memory_s: float = 10.0
    #: An image that is larger is removed, bytes.
    memory_bytes: int = 256 << 20


@dataclass(frozen=True)
class Piece:
    """One thing that was wanted. `why`: what it says where it is not there, or where to find it."""

    name: str
    there: bool
    why: str
    size: int
    seconds: float


@dataclass(frozen=True)
class Manifest:
    """Everything that was wanted, in order."""

    pieces: tuple[Piece, ...]
    #: Bytes of the console that were there before: what follows them the harness has made the guest say.
    console_bytes: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Plain values, as `evidence.json` holds them."""
        return asdict(self)


@dataclass
class _Collector:
    folder: Path
    pieces: list[Piece] = field(default_factory=list)

    @contextmanager
    def piece(self, name: str) -> Iterator[_Note]:
        """Time one piece; what goes wrong is its `why`, and no reason to leave the others."""
        note = _Note()
        begin = time.monotonic()
        try:
            yield note
        except (HarnessError, OSError, *UNREADABLE) as error:
            note.there, note.why = False, str(error)
        path = self.folder / name
        size = path.stat().st_size if note.there and path.is_file() else note.size
        seconds = round(time.monotonic() - begin, 4)
        self.pieces.append(Piece(name, note.there, note.why, size, seconds))

    def write(self, name: str, content: Callable[[], str]) -> None:
        """A piece that is a text file."""
        with self.piece(name):
            write_atomically(self.folder / name, content().encode("utf-8", errors="backslashreplace"))


@dataclass
class _Note:
    there: bool = True
    why: str = ""
    size: int = 0


def collect(
    guest: Guest,
    trial: Path,
    symbols: SymbolFiles,
    table: SymbolTable | None = None,
    diagnosis: Diagnosis | None = None,
    limits: Limits = Limits(),
    since_s: float = 0.0,
) -> Manifest:
    """Fill `trial/evidence/` and say what is there. `trial` holds the guest's raw record.

    `since_s`: samples are counted from then on, s since power-on. `diagnosis`: the one that decided; without
    one, a look is taken now. The guest runs on afterwards. Its events are taken from it while its answers are
    waited for. A guest that is gone gives what can be had without it. InfraError only if the folder cannot be
    made, or the manifest not be written.
    """
    begin = time.monotonic()
    folder = trial / FOLDER
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        console = _size(trial / CONSOLE)
    collector = _Collector(folder)
    if guest.capabilities.memory_image:
        diagnosis = _memory(guest, collector, symbols, diagnosis, limits)
    if diagnosis:
        for name, content in _told(diagnosis).items():
            collector.write(name, content)
    if guest.capabilities.vcpu_samples:
        samples = (event for event in replay(trial) if isinstance(event, Sample) and event.host_s >= since_s)
        collector.write("samples.txt", lambda: histogram_text(histogram(samples, table)))
    _answers(guest, collector, trial / CONSOLE, limits)
    manifest = Manifest(tuple(collector.pieces), console, round(time.monotonic() - begin, 4))
    write_atomically(folder / MANIFEST, json.dumps(manifest.as_json(), indent=2).encode() + b"\n")
    return manifest


def add_dumps(trial: Path, symbols: SymbolFiles) -> None:
    """Say in `trial/evidence/` who waits for whom in the dump that kdump left there, if one can be read."""
    folder = trial / FOLDER
    for path in sorted((folder / VMCORE).glob("*")):
        with suppress(HarnessError, *UNREADABLE), open_vmcore(path, symbols) as image:
            for name, content in _told(diagnose(image)).items():
                write_atomically(folder / name, content().encode())


def _told(diagnosis: Diagnosis) -> dict[str, Callable[[], str]]:
    """The files that a diagnosis is told in."""
    return {
        "diagnosis.json": lambda: json.dumps(diagnosis.as_json(), ensure_ascii=False) + "\n",
        "cycle.txt": lambda: "\n".join(cycle_text(diagnosis)) + "\n",
        "cycle.svg": lambda: cycle_svg(diagnosis),
    }


def _memory(
    guest: Guest,
    collector: _Collector,
    symbols: SymbolFiles,
    diagnosis: Diagnosis | None,
    limits: Limits,
) -> Diagnosis | None:
    """What the frozen guest shows: registers, stacks, and a diagnosis if there is none yet."""
    registers: Registers = {}
    fresh: list[Diagnosis] = []

    def read() -> str:
        with interrupts_deferred(), open_live(guest.memory_address, registers, symbols) as image:
            fresh.append(diagnosis or diagnose(image))
            tasks = read_all_stacks(image, Deadline.after(limits.stacks_s))
        return "\n".join(_stack_text(task) for task in tasks)

    try:
        with collector.piece("registers.txt"):
            guest.pause()
            registers = guest.registers()
            write_atomically(collector.folder / "registers.txt", _registers_text(registers).encode())
        if registers:
            collector.write("stacks.txt", read)
            if limits.memory_s > 0:
                _image(guest, collector, limits)
    finally:
        with collector.piece("resume"):
            guest.resume()
    return fresh[0] if fresh else diagnosis


def _answers(guest: Guest, collector: _Collector, console: Path, limits: Limits) -> None:
    """The longest answer last: a key that comes while the guest still prints is lost."""
    if guest.capabilities.nmi:
        with collector.piece("nmi") as note:
            begin = _size(console)
            guest.inject_nmi()
            _wait(guest, console, begin, _NMI_SAYS, note, limits)
    for key, says in _SYSRQ.items():
        with collector.piece(f"sysrq-{key}") as note:
            begin = _size(console)
            guest.sysrq(key)
            _wait(guest, console, begin, says, note, limits)


def _wait(guest: Guest, console: Path, begin: int, says: bytes, note: _Note, limits: Limits) -> None:
    """Wait until the console's record says this from `begin` on, and nothing more is added to it.

    What the agent has to say may be over by then: a box that it ran on still answers.
    """
    deadline = Deadline.after(limits.answer_s)
    heard = b""
    last = time.monotonic()
    while not deadline.expired:
        pause = deadline.sooner(limits.quiet_s)
        event = guest.next_event(pause)
        if isinstance(event, GuestEnded) and event.how != "exited":
            break
        if event is None:
            time.sleep(pause.remaining)
        if _size(console) > begin + len(heard):
            with console.open("rb") as record:
                record.seek(begin + len(heard))
                heard += record.read()
            last = time.monotonic()
        elif says in heard and time.monotonic() - last >= limits.quiet_s:
            break
    note.there = says in heard
    note.size = len(heard)
    cut = ", cut off by the time limit" if note.there and deadline.expired else ""
    note.why = (
        f"in console.log{cut}" if note.there else f"the guest did not answer within {limits.answer_s:g} s"
    )


def _size(console: Path) -> int:
    return console.stat().st_size if console.is_file() else 0


def _image(guest: Guest, collector: _Collector, limits: Limits) -> None:
    with collector.piece("memory.elf.zst") as note:
        path = collector.folder / "memory.elf.zst"
        size = guest.save_memory(path, Deadline.after(limits.memory_s))
        if size > limits.memory_bytes:
            path.unlink()
            note.there, note.why = False, f"{size} bytes: more than the limit of {limits.memory_bytes}"
        else:
            note.why = "of the moment of stacks.txt; the guest ran on after the look that decided"


def _registers_text(registers: Registers) -> str:
    lines: list[str] = []
    for cpu, values in sorted(registers.items()):
        lines.append(f"CPU {cpu}")
        lines += [f"  {name:4} {value:016x}" for name, value in values.items()]
    return "\n".join(lines) + "\n"


def _stack_text(task: TaskFact) -> str:
    place = f"on CPU {task.cpu}" if task.on_cpu else f"last on CPU {task.cpu}"
    times = f", on it for {task.on_cpu_s:.3f} s" if task.on_cpu_s is not None else ""
    times += f", off it for {task.off_cpu_s:.3f} s" if task.off_cpu_s is not None else ""
    lines = [f"{task.comm} pid {task.pid} state {task.state} {task.policy} {place}{times}"]
    for number, frame in enumerate(task.stack):
        inline = " (inlined)" if frame.inline else ""
        lines.append(f"  #{number:<2} {frame.function} {frame.place}{inline}")
    return "\n".join(lines) + "\n"
