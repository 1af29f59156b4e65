# SPDX-License-Identifier: GPL-2.0-only
"""What crosses the agent's channel, both ways, and what is made of it."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from harness.cache import Cache
from harness.deadline import Deadline
from harness.errors import InfraError
from harness.guest.plan import (
    Exec,
    Insmod,
    PowerOff,
    Print,
    Rmmod,
    Shell,
    Sleep,
    Step,
    Sysctl,
    Write,
    plan_text,
)
from harness.guest.preempt import check_preemption
from harness.guest.protocol import (
    Corruption,
    End,
    ErrorMessage,
    Exit,
    Garbage,
    Hello,
    Iteration,
    ProgressMessage,
    Start,
    ThreadCount,
    UnknownMessage,
    parse_line,
)
from harness.target import accel
from harness.target.channels import LINE_LIMIT, Lines

HELLO = {"type": "hello", "protocol": 1, "t": 0.75, "release": "7.3.4", "preempt": "none", "cpus": 2}


def test_hello() -> None:
    hello = parse_line(json.dumps({**HELLO, "thp": "madvise", "new": [1]}))
    assert isinstance(hello, Hello)
    assert (hello.release, hello.preempt, hello.cpus, hello.thp, hello.t) == (
        "7.3.4",
        "none",
        2,
        "madvise",
        0.75,
    )
    assert hello.model_extra == {"new": [1]}


def test_the_stressors_messages() -> None:
    start = parse_line('{"type":"start","t":1,"scenario":"s","parameters":{"pages":511,"entry":"x"}}')
    assert isinstance(start, Start)
    assert start.parameters == {"pages": 511, "entry": "x"}
    progress = parse_line(
        '{"type":"progress","t":1.5,"iteration":3,"phase":"migrate","threads":[{"name":"holder","count":9}],'
        '"window":{"open":true,"hit":false}}'
    )
    assert isinstance(progress, ProgressMessage)
    assert progress.threads == (ThreadCount(name="holder", count=9),)
    iteration = parse_line(
        '{"type":"iteration","t":2,"n":0,"window":{"hit":false,"missing":["system_off_lru"],"drain_cpus":1},'
        '"migrated":512,"faults":1,"seconds":0.04}'
    )
    assert isinstance(iteration, Iteration)
    assert iteration.window is not None
    assert (iteration.window.hit, iteration.window.missing) == (False, ("system_off_lru",))
    assert iteration.window.model_extra == {"drain_cpus": 1}
    end = parse_line('{"type":"end","t":3,"iterations":20,"windows":19,"status":0}')
    assert isinstance(end, End)
    assert (end.iterations, end.windows) == (20, 19)
    ended = parse_line('{"type":"exit","t":3.1,"path":"/stressor","status":0,"signal":0}')
    assert isinstance(ended, Exit)
    error = parse_line(
        '{"type":"error","t":1,"what":"insmod","errno":8,"text":"/m.ko: Exec format error\\nm: x"}'
    )
    assert isinstance(error, ErrorMessage)
    assert (error.what, error.number, error.text.splitlines()[1]) == ("insmod", 8, "m: x")
    corruption = parse_line('{"type":"corruption","t":1,"page":3,"expected":1,"found":2}')
    assert isinstance(corruption, Corruption)
    assert corruption.model_extra == {"page": 3, "expected": 1, "found": 2}


def test_an_unknown_kind_is_kept() -> None:
    message = parse_line('{"type":"heartbeat","t":1,"level":3}')
    assert isinstance(message, UnknownMessage)
    assert message.type == "heartbeat"
    assert message.model_extra == {"t": 1, "level": 3}


@pytest.mark.parametrize(
    "line",
    ["", " ", "5", "[]", '"hello"', "null", "{", '{"t":1}', '{"type":5}', '{"type":"hello"}', "[" * 100_000,
     '{"type":"end","t":"soon","iterations":1}', '{"type":"hello","protocol":true}', "\udc80", "\\xff\\xfe",
     '{"type":"iteration","t":1,"n":0,"window":5}'],
)  # fmt: skip
def test_junk_is_garbage(line: str) -> None:
    garbage = parse_line(line)
    assert isinstance(garbage, Garbage)
    assert garbage.why
    assert len(garbage.text) <= 200


def test_nothing_a_guest_says_raises() -> None:
    dice = random.Random(3)
    line = json.dumps(HELLO)
    kinds = set()
    for _ in range(3000):
        broken = list(line)
        for _ in range(dice.randint(1, 4)):
            broken[dice.randrange(len(broken))] = chr(dice.choice([*range(128), 0xD800, 0x1F427]))
        kinds.add(type(parse_line("".join(broken))).__name__)
    assert {"Hello", "Garbage"} <= kinds


def test_check_preemption() -> None:
    def hello(preempt: str) -> Hello:
        return Hello(type="hello", protocol=1, t=0.7, release="7.3.4", preempt=preempt, cpus=2)

    check_preemption(hello("none"), "none")
    with pytest.raises(InfraError, match=r"asked for preempt=none, the kernel 7\.3\.4 runs full") as error:
        check_preemption(hello("full"), "none")
    assert "x86-preempt-choice" in error.value.hint
    with pytest.raises(InfraError, match="does not say") as error:
        check_preemption(hello("unknown"), "lazy")
    assert "CONFIG_DEBUG_FS" in error.value.hint


def test_plan_text() -> None:
    steps: list[Step] = [
        Sysctl("kernel/hung_task_warnings", "-1"),
        Write("/sys/kernel/debug/x", "a b"),
        Insmod("/lib/m.ko", ("devices=2",)),
        Exec("/stressor", ("trylock-starvation", "seed=1")),
        Rmmod("m"),
        Sleep(6),
        Print("/sys/kernel/debug/kmemleak"),
        Shell(),
        PowerOff(),
    ]
    assert plan_text(steps) == (
        "sysctl kernel/hung_task_warnings -1\n"
        "write /sys/kernel/debug/x a b\n"
        "insmod /lib/m.ko devices=2\n"
        "exec /stressor trylock-starvation seed=1\n"
        "rmmod m\n"
        "sleep 6\n"
        "print /sys/kernel/debug/kmemleak\n"
        "shell\n"
        "poweroff\n"
    )


@pytest.mark.parametrize(
    "step",
    [Exec("/a b"), Exec("/a", ("",)), Exec("/a", ("x\ny",)), Write("/a", "1\nshell"), Sysctl("k", " 1")],
)
def test_a_word_that_would_fall_apart_is_refused(step: Step) -> None:
    with pytest.raises(ValueError, match="is no"):
        plan_text([step])


def test_a_plan_that_init_would_cut_off() -> None:
    with pytest.raises(ValueError, match="68000 bytes"):
        plan_text([Print("/" + "x" * 26)] * 2000)


def test_lines_are_cut_across_reads() -> None:
    lines: list[bytes] = []
    feed = Lines(lines.append)
    for byte in b"one\n\ntwo\nthr":
        feed(bytes([byte]))
    assert lines == [b"one", b"two"]
    feed(b"")
    assert lines == [b"one", b"two", b"thr"]


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    lines: list[bytes] = []
    feed = Lines(lines.append)
    for _ in range(40):
        feed(b"x" * 65536)
    feed(b"")
    assert b"".join(lines) == b"x" * (40 * 65536)
    assert max(map(len, lines)) <= LINE_LIMIT + 65536


class Notes:
    """A progress that keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Notes]:
        yield self

    def update(self, what: str, done: int = 0, total: int = 0) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], running: str = "") -> None:
        pass


def test_no_kvm_device_ends_in_tcg_with_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel, "DEVICE", tmp_path / "kvm")
    progress = Notes()
    cache = Cache(tmp_path / "cache")
    later = Deadline.after(60)
    kernel = tmp_path / "vmlinux"
    assert accel.choose_accel("auto", kernel, "microvm", cache, progress, later) == "tcg"
    assert progress.notes == [f"KVM: no {tmp_path}/kvm; using TCG"]
    with pytest.raises(InfraError, match="KVM: no "):
        accel.choose_accel("kvm", kernel, "microvm", cache, progress, later)


def test_tcg_asks_nobody(tmp_path: Path) -> None:
    progress = Notes()
    cache = Cache(tmp_path / "cache")
    assert accel.choose_accel("tcg", tmp_path, "microvm", cache, progress, Deadline.after(60)) == "tcg"
    assert progress.notes == []


def test_what_qemu_says_of_kvm(tmp_path: Path) -> None:
    log = tmp_path / "qemu.log"
    for text, failure in (
        (
            "KVM internal error. Suberror: 1\nextra data[0]: 0x1\nemulation failure\nRAX=0\n",
            "emulation failure",
        ),
        ("qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69\n", "failed to set MSR 0x10a to 0x69"),
        ("qemu-system-x86_64: warning: host doesn't support requested feature\n", ""),
        ("qemu-system-x86_64: terminating on signal 15 from pid 9\n", ""),
    ):
        log.write_text(text)
        assert accel._failure(log) == failure
