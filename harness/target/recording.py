# SPDX-License-Identifier: GPL-2.0-only
"""The raw record of a guest on disk: written before anything is parsed, read back as the same events.

- `console.log`: the console's bytes, untouched
- `console.times`: a line for each chunk of it: offset of its first byte, seconds since power-on
- `agent.jsonl`: a line for each line of the agent: `{"host_s": ..., "line": ...}`
- `samples.jsonl`: a line for each look at the CPUs: `{"host_s": ..., "running": ..., "cpus": [...]}`, of each
  CPU its number, RIP in hexadecimal, CPL, whether it was halted, and of its thread on the host the CPU time
  and the time it waited for a CPU, in seconds
- `guest.json`: the command that started the guest, and how it ended
"""

from __future__ import annotations

import heapq
import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

from harness.disk import disk_errors, write_atomically
from harness.errors import UserError
from harness.target.protocol import (
    AgentLine,
    ConsoleData,
    Ending,
    GuestEnded,
    RawEvent,
    Sample,
    VcpuSample,
)

CONSOLE = "console.log"
TIMES = "console.times"
AGENT = "agent.jsonl"
SAMPLES = "samples.jsonl"
GUEST = "guest.json"


class Recorder:
    """Writes a guest's events to a folder as they come. Not safe for several threads at once.

    Raises InfraError when the disk is full or cannot be written.
    """

    def __init__(self, folder: Path, argv: Sequence[str]) -> None:
        self._folder = folder
        self._argv = tuple(argv)
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            names = (CONSOLE, TIMES, AGENT, SAMPLES)
            self._files = {name: (folder / name).open("wb", buffering=0) for name in names}
        self._offset = 0
        self._write_guest(None)

    def record(self, event: RawEvent) -> None:
        """Write one event; it is in the kernel's hands when this returns."""
        match event:
            case ConsoleData(host_s, data):
                self._write(CONSOLE, data)
                self._write(TIMES, f"{self._offset} {host_s!r}\n".encode())
                self._offset += len(data)
            case AgentLine(host_s, text):
                line = json.dumps({"host_s": host_s, "line": text}, ensure_ascii=False)
                self._write(AGENT, line.encode("utf-8", errors="backslashreplace") + b"\n")
            case Sample():
                self._write(SAMPLES, sample_line(event).encode())
            case GuestEnded():
                self._write_guest(event)

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def _write(self, name: str, data: bytes) -> None:
        file: IO[bytes] = self._files[name]
        with disk_errors(self._folder / name):
            while data:  # an unbuffered file may take a part only
                data = data[file.write(data) :]

    def _write_guest(self, ended: GuestEnded | None) -> None:
        content = {
            "command": shlex.join(self._argv),
            "argv": self._argv,
            "ended": ended and _ended(ended),
        }
        write_atomically(self._folder / GUEST, json.dumps(content, indent=2).encode() + b"\n")


def replay(folder: Path) -> Iterator[RawEvent]:
    """The events of a recorded guest, in the order they came.

    A record that was cut off (a killed harness) gives what is there, without a `GuestEnded`.
    Raises UserError if the folder holds no record.
    """
    if not (folder / CONSOLE).is_file():
        raise UserError(f"{folder} holds no record of a guest", hint=f"expected {CONSOLE} there")
    streams: tuple[Iterator[ConsoleData | AgentLine | Sample], ...] = (
        _console(folder),
        agent_lines(folder),
        recorded_samples(folder),
    )
    yield from heapq.merge(*streams, key=lambda event: event.host_s)
    try:
        ended = json.loads((folder / GUEST).read_text(encoding="utf-8"))["ended"]
    except (OSError, ValueError, KeyError):
        return
    if ended:
        how = cast(Ending, ended["how"])
        yield GuestEnded(ended["host_s"], ended["status"], how, ended.get("why", ""))


def _ended(ended: GuestEnded) -> dict[str, Any]:
    why = {"why": ended.why} if ended.why else {}
    return {"host_s": ended.host_s, "status": ended.status, "how": ended.how, **why}


def _console(folder: Path) -> Iterator[ConsoleData]:
    rows = [row.split() for row in _whole_lines(folder / TIMES)]
    marks = [(int(row[0]), float(row[1])) for row in rows]
    with (folder / CONSOLE).open("rb") as log:
        for number, (offset, host_s) in enumerate(marks, start=1):
            log.seek(offset)
            # What follows the last mark was written just before a harness died: it belongs to that time.
            yield ConsoleData(host_s, log.read(marks[number][0] - offset if number < len(marks) else -1))
        if not marks and (data := log.read()):
            yield ConsoleData(0.0, data)


def agent_lines(folder: Path) -> Iterator[AgentLine]:
    """What the agent said, as it was recorded. ValueError, KeyError or TypeError where that is damaged."""
    for line in _whole_lines(folder / AGENT):
        row: dict[str, Any] = json.loads(line)
        yield AgentLine(row["host_s"], row["line"])


def sample_line(sample: Sample) -> str:
    """A look at the CPUs as a line of `samples.jsonl`."""
    cpus = [[cpu.cpu, f"{cpu.rip:x}", cpu.cpl, cpu.halted, cpu.run_s, cpu.wait_s] for cpu in sample.cpus]
    row = {"host_s": sample.host_s, "running": sample.running, "cpus": cpus}
    return json.dumps(row, separators=(",", ":")) + "\n"


def recorded_samples(folder: Path) -> Iterator[Sample]:
    """The looks at the CPUs, as they were recorded. ValueError, KeyError or TypeError for damage."""
    for line in _whole_lines(folder / SAMPLES):
        row: dict[str, Any] = json.loads(line)
        cpus = (
            VcpuSample(cpu, int(rip, 16), cpl, halted, *times)
            for cpu, rip, cpl, halted, *times in row["cpus"]
        )
        yield Sample(row["host_s"], row["running"], tuple(cpus))


def _whole_lines(path: Path) -> Iterator[str]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8", newline="\n") as source:
        for line in source:
            if line.endswith("\n"):
                yield line
