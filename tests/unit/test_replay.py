# SPDX-License-Identifier: GPL-2.0-only
"""What a replay needs and how it compares, without booting anything."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from harness.cache import Cache
from harness.errors import InfraError, UserError
from harness.experiment import replay
from harness.experiment.replay import Comparison, console_lines, first_difference, provenance, recorded_trial
from harness.guest.guesttime import check_guest_time
from harness.guest.protocol import Hello
from harness.kmod import GuestPrograms
from harness.results.runfolder import write_record
from harness.target.debugger import Symbols, gdb_argv, stub_argv
from harness.target.filechannel import FileChannel
from harness.target.protocol import AgentLine, BootPlan, ConsoleData, GuestEnded
from harness.target.recording import Recorder

IMAGE = "initramfs.cpio"
MODULE_TEXT = "0xffffffffa0000000"


def progress(iteration: int, phase: str) -> str:
    return json.dumps({"type": "progress", "t": 1.0, "iteration": iteration, "phase": phase, "threads": []})


LINES = [
    json.dumps({"type": "module", "name": "hmm_harness", "text": MODULE_TEXT, "bss": "0xffffffffa0201020"}),
    json.dumps({"type": "module", "name": "other", "text": "0x1000"}),
    json.dumps({"type": "start", "t": 0.5, "scenario": "trylock-starvation"}),
    progress(0, "fill"),
    progress(0, "race"),
    progress(0, "race"),
    progress(0, "race"),
]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """A cache with a kernel and a module in it, and a QEMU of version 7."""
    monkeypatch.setattr(replay, "_version", lambda: "QEMU emulator version 7")
    for path in ("builds/k/vmlinux.boot", "builds/k/vmlinux", "modules/m/hmm_harness.ko"):
        file = tmp_path / "cache" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(path)
    return Cache(tmp_path / "cache")


@pytest.fixture
def folder(tmp_path: Path, store: Cache) -> Path:
    """The folder of a finished trial."""
    return make_trial(tmp_path / "001-unfixed", store)


def make_trial(folder: Path, store: Cache, *, ended: str = "exited", **boot: Any) -> Path:
    folder.mkdir()
    (folder / IMAGE).write_text("initramfs")
    plan = BootPlan(
        store.root / "builds/k/vmlinux.boot",
        folder / IMAGE,
        cmdline=("preempt=none",),
        **{"clock": "virtual", "seed": 7, **boot},
    )
    module = store.root / "modules/m/hmm_harness.ko"
    debug = module.with_name("hmm_harness.ko.debug")
    programs = GuestPrograms(module, debug, module, debug, module, module)
    facts = {"seed": 7, "command": "hmm-harness run --seed 7", "provenance": provenance(plan, programs)}
    write_record(folder, facts)
    recorder = Recorder(folder, ["qemu"])
    recorder.record(ConsoleData(0.1, b"one\ntwo\n"))
    for number, line in enumerate(LINES):
        recorder.record(AgentLine(0.2 + number / 10, line))
    if ended:
        recorder.record(GuestEnded(2.5, 0, ended))  # type: ignore[arg-type]
    recorder.close()
    return folder


def test_a_trial_is_read_back_as_it_was_booted(folder: Path, store: Cache) -> None:
    trial = recorded_trial(folder, IMAGE, store)
    assert trial.plan == BootPlan(
        kernel=store.root / "builds/k/vmlinux.boot",
        initramfs=folder / IMAGE,
        cmdline=("preempt=none",),
        clock="virtual",
        seed=7,
    )
    assert (trial.console, trial.agent, trial.whole) == (b"one\ntwo\n", tuple(LINES), True)
    assert trial.seconds == 2.5


def test_the_record_moves_with_its_folder_and_its_cache(folder: Path, store: Cache, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moved = folder.rename(elsewhere / "trial")
    cache = Cache(store.root.rename(elsewhere / "cache"))
    assert recorded_trial(moved, IMAGE, cache).plan.initramfs == moved / IMAGE


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("cache/builds/k/vmlinux.boot", "another kernel image"),
        ("cache/modules/m/hmm_harness.ko", "another module"),
        ("001-unfixed/initramfs.cpio", "another initramfs"),
    ],
)
def test_what_is_not_as_recorded_is_named(
    folder: Path, store: Cache, tmp_path: Path, path: str, what: str
) -> None:
    (tmp_path / path).write_text("something else")
    with pytest.raises(UserError, match=f"ran with {what}$"):
        recorded_trial(folder, IMAGE, store)


def test_all_that_differs_is_named(folder: Path, store: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "_version", lambda: "QEMU emulator version 8")
    monkeypatch.setattr(replay, "_argv", lambda plan: ["qemu", "--differently"])
    (folder / IMAGE).write_text("something else")
    with pytest.raises(UserError) as error:
        recorded_trial(folder, IMAGE, store)
    words = "another QEMU (QEMU emulator version 7 then, QEMU emulator version 8 now)"
    assert f"{words}, initramfs, command line of QEMU" in error.value.message


def test_a_build_that_is_gone_names_the_command_that_makes_it(folder: Path, store: Cache) -> None:
    (store.root / "builds/k/vmlinux.boot").unlink()
    with pytest.raises(UserError, match="is not there any more") as error:
        recorded_trial(folder, IMAGE, store)
    assert "hmm-harness run --seed 7" in error.value.hint


def test_only_the_virtual_clock_repeats(tmp_path: Path, store: Cache) -> None:
    folder = make_trial(tmp_path / "trial", store, clock="host")
    with pytest.raises(UserError, match="only --clock virtual trials repeat exactly"):
        recorded_trial(folder, IMAGE, store)


def test_a_folder_that_is_no_trials_is_refused(tmp_path: Path, store: Cache) -> None:
    with pytest.raises(UserError, match="cannot read"):
        recorded_trial(tmp_path, IMAGE, store)
    write_record(tmp_path, {"verb": "compare"})
    with pytest.raises(UserError, match="not the folder of a trial"):
        recorded_trial(tmp_path, IMAGE, store)
    write_record(tmp_path, {"seed": 1, "command": "", "provenance": {"boot": {"cmdline": [], "gears": 5}}})
    with pytest.raises(UserError, match="another version"):
        recorded_trial(tmp_path, IMAGE, store)


def test_the_onset_is_the_last_message_that_showed_progress(folder: Path, store: Cache) -> None:
    assert recorded_trial(folder, IMAGE, store).until_onset() == tuple(LINES[:5])


def test_symbols_are_those_of_the_trials_module(folder: Path, store: Cache) -> None:
    symbols = recorded_trial(folder, IMAGE, store).symbols()
    assert symbols.sections == {".text": 0xFFFFFFFFA0000000, ".bss": 0xFFFFFFFFA0201020}
    assert symbols.vmlinux.name == "vmlinux" and symbols.module.name == "hmm_harness.ko.debug"


def test_first_difference() -> None:
    assert first_difference("console", ["a", "b"], ["a", "b"], whole=True) is None
    changed = first_difference("console", ["a", "b", "c"], ["a", "x", "c"], whole=True)
    assert changed and (changed.line, changed.recorded, changed.replayed) == (2, "b", "x")
    longer = first_difference("agent", ["a"], ["a", "b"], whole=True)
    assert longer and (longer.line, longer.recorded, longer.replayed) == (2, None, "b")
    shorter = first_difference("agent", ["a", "b"], ["a"], whole=True)
    assert shorter and (shorter.line, shorter.recorded, shorter.replayed) == (2, "b", None)


def test_a_record_that_was_cut_off_may_go_on() -> None:
    assert first_difference("console", ["a", "be"], ["a", "bee", "c"], whole=False) is None
    assert first_difference("console", ["a", "be"], ["a", "bee", "c"], whole=True)
    assert first_difference("console", ["a", "be"], ["a", "xee"], whole=False)
    assert first_difference("console", ["a", "be"], ["ax", "be"], whole=False)
    assert first_difference("console", ["a", "be"], ["a"], whole=False)


def test_bytes_that_are_no_text_still_differ() -> None:
    assert console_lines(b"\xff\n") != console_lines(b"\xfe\n")


def test_what_is_printed(tmp_path: Path) -> None:
    same = Comparison(None, 10, 2, True, 2.04, tmp_path)
    assert same.text() == "identical: 10 bytes of console, 2 agent lines, 2.0 s"
    assert same.as_json()["identical"] is True
    found = first_difference("console", ["a"], [], whole=True)
    different = Comparison(found, 10, 2, True, 2.0, tmp_path)
    assert "console, line 1\n  recorded: a\n  replayed: (no such line)" in different.text()
    assert different.as_json()["difference"]["line"] == 1


def hello(loops: int, ms: float) -> Hello:
    return Hello(
        type="hello",
        protocol=1,
        t=1.0,
        release="7",
        preempt="none",
        cpus=2,
        calibration_loops=loops,
        calibration_ms=ms,
    )


@pytest.mark.parametrize("loops", [1_615_000, 790_000, 395_000, 185_000, 95_000])
def test_guest_time_at_shifts_3_to_7_is_sane(loops: int) -> None:
    check_guest_time(hello(loops, 40.003))


@pytest.mark.parametrize(
    ("loops", "ms", "word"),
    [(45_000, 40.002, "too fast"), (17_890_000, 40.002, "too slowly"), (0, 0.0, "has not measured")],
)
def test_guest_time_that_is_not_sane(loops: int, ms: float, word: str) -> None:
    with pytest.raises(InfraError, match=f"guest time is not sane: .*{word}"):
        check_guest_time(hello(loops, ms))


def test_a_file_channel_gives_what_comes_until_nobody_writes() -> None:
    ended = threading.Event()
    with FileChannel("test", ended) as channel:
        writer = os.open(f"/dev/fd/{channel.fileno()}", os.O_WRONLY)
        os.write(writer, b"abc")
        assert (channel.recv(2), channel.recv(2)) == (b"ab", b"c")

        def last_words() -> None:
            os.write(writer, b"d")
            ended.set()

        threading.Timer(0.05, last_words).start()
        assert (channel.recv(2), channel.recv(2)) == (b"d", b"")
        os.close(writer)


PLAN = BootPlan(Path("/k/vmlinux.boot"), Path("/t/initramfs.cpio"), clock="virtual")


def test_the_stub_runs_what_the_trial_ran() -> None:
    argv = stub_argv(PLAN, Path("/tmp/x"), 3, 4)
    assert argv[-4:] == [
        "-chardev",
        "socket,id=gdb,fd=4,server=on,wait=off",
        "-gdb",
        "chardev:gdb",
    ]
    assert "-no-shutdown" in argv
    assert "file,id=agent,path=/tmp/x/agent.log" in argv and "socket,id=monitor,fd=3" in argv


def test_gdb_golden() -> None:
    symbols = Symbols(Path("/k/vmlinux"), Path("/m/a.ko"), {".text": 0xA000, ".bss": 0xB000}, (Path("/src"),))
    assert gdb_argv(symbols, Path("/tmp/x/gdb"), batch=True) == [
        "gdb",
        "-nx",
        "-batch",
        "/k/vmlinux",
        "-ex",
        "set confirm off",
        "-ex",
        "directory /src",
        "-ex",
        "add-symbol-file /m/a.ko 0xa000 -s .bss 0xb000",
        "-ex",
        "target remote /tmp/x/gdb",
        "-ex",
        "info threads",
        "-ex",
        "thread apply all bt",
    ]
    assert gdb_argv(symbols, Path("/tmp/x/gdb"), batch=False)[1:3] == ["-nx", "-quiet"]
