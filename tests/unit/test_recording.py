# SPDX-License-Identifier: GPL-2.0-only
"""A guest's record: what comes back from disk is what was written."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from harness.errors import InfraError, UserError
from harness.target.protocol import AgentLine, ConsoleData, GuestEnded, RawEvent, Sample, VcpuSample
from harness.target.recording import AGENT, CONSOLE, GUEST, SAMPLES, TIMES, Recorder, replay

ARGV = ["qemu-system-x86_64", "-append", "a b"]
EVENTS: list[RawEvent] = [
    ConsoleData(0.045469, b"[    0.0"),
    ConsoleData(0.0467, b"00000][    T0] Linux\r\n\x00\xff\xfe"),
    AgentLine(0.8, '{"type":"hello"}'),
    ConsoleData(0.800001, b"x"),
    Sample(
        0.9,
        True,
        (VcpuSample(0, 0xFFFFFFFF812C6AC3, 0, True, 0.725001), VcpuSample(1, 0x401000, 3, False, 0.5, 0.25)),
    ),
    AgentLine(1.25, 'broken "\u2028 \\xff \U0001f427'),
    GuestEnded(2.0, -9, "killed"),
]


def record(folder: Path, events: list[RawEvent]) -> None:
    recorder = Recorder(folder, ARGV)
    for event in events:
        recorder.record(event)
    recorder.close()


def test_replay_gives_the_same_events(tmp_path: Path) -> None:
    record(tmp_path, EVENTS)
    assert list(replay(tmp_path)) == EVENTS


def test_the_console_is_untouched(tmp_path: Path) -> None:
    record(tmp_path, EVENTS)
    assert (tmp_path / CONSOLE).read_bytes() == b"".join(e.data for e in EVENTS if isinstance(e, ConsoleData))


def test_every_byte_value_and_many_chunks(tmp_path: Path) -> None:
    dice = random.Random(7)
    events: list[RawEvent] = []
    for number in range(500):
        if dice.random() < 0.8:
            events.append(ConsoleData(number / 1000, dice.randbytes(dice.randint(1, 3000))))
        elif dice.random() < 0.5:
            cpus = (
                VcpuSample(n, dice.getrandbits(64), 3 * n, n == 1, dice.random(), dice.random())
                for n in (0, 1)
            )
            events.append(Sample(number / 1000, dice.random() < 0.5, tuple(cpus)))
        else:
            events.append(AgentLine(number / 1000, dice.randbytes(40).decode("latin-1").replace("\n", "")))
    record(tmp_path, events)
    assert list(replay(tmp_path)) == events


def test_the_command_and_the_end_are_on_record(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, ARGV)
    before = json.loads((tmp_path / GUEST).read_text())
    assert before == {"command": "qemu-system-x86_64 -append 'a b'", "argv": ARGV, "ended": None}
    recorder.record(GuestEnded(1.5, 0, "exited"))
    recorder.close()
    after = json.loads((tmp_path / GUEST).read_text())
    assert after["ended"] == {"host_s": 1.5, "status": 0, "how": "exited"}


def test_events_are_on_disk_while_the_guest_runs(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, ARGV)
    for event in EVENTS[:4]:
        recorder.record(event)
    assert list(replay(tmp_path)) == EVENTS[:4]  # never closed: as a killed harness leaves it
    recorder.close()


def test_a_record_cut_within_a_chunk(tmp_path: Path) -> None:
    record(tmp_path, EVENTS[:4])
    with (tmp_path / CONSOLE).open("ab") as console:
        console.write(b"tail")  # written, but its time was not
    with (tmp_path / TIMES).open("ab") as times:
        times.write(b"33")
    with (tmp_path / AGENT).open("ab") as agent:
        agent.write(b'{"host_s": 0.9, "li')
    with (tmp_path / SAMPLES).open("ab") as samples:
        samples.write(b'{"host_s":0.9,"runn')
    assert list(replay(tmp_path)) == [*EVENTS[:3], ConsoleData(0.800001, b"xtail")]


def test_a_guest_that_said_nothing(tmp_path: Path) -> None:
    record(tmp_path, [GuestEnded(1.0, 0, "stopped")])
    assert list(replay(tmp_path)) == [GuestEnded(1.0, 0, "stopped")]


def test_a_record_of_a_guest_that_was_not_sampled(tmp_path: Path) -> None:
    rest: list[RawEvent] = [event for event in EVENTS if not isinstance(event, Sample)]
    record(tmp_path, rest)
    (tmp_path / SAMPLES).unlink()
    assert list(replay(tmp_path)) == rest


def test_a_sample_is_one_short_line(tmp_path: Path) -> None:
    record(tmp_path, EVENTS)
    (line,) = (tmp_path / SAMPLES).read_text().splitlines()
    assert line == (
        '{"host_s":0.9,"running":true,"cpus":'
        '[[0,"ffffffff812c6ac3",0,true,0.725001,0.0],[1,"401000",3,false,0.5,0.25]]}'
    )


def test_a_folder_without_a_record(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no record of a guest"):
        list(replay(tmp_path))


@pytest.mark.parametrize(("name", "event"), [(CONSOLE, EVENTS[0]), (TIMES, EVENTS[0]), (SAMPLES, EVENTS[4])])
def test_a_full_disk_is_the_machines(tmp_path: Path, name: str, event: RawEvent) -> None:
    (tmp_path / name).symlink_to("/dev/full")
    recorder = Recorder(tmp_path, ARGV)
    with pytest.raises(InfraError, match="No space left") as error:
        recorder.record(event)
    assert name in error.value.message
    recorder.close()
