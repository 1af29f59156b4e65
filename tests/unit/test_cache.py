# SPDX-License-Identifier: GPL-2.0-only
"""The cache: entries whole or not at all, locks, full disks."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from harness import cache as cache_module
from harness.cache import Cache, digest
from harness.deadline import Deadline
from harness.disk import disk_errors, write_atomically
from harness.errors import InfraError


def test_an_entry_that_fails_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with pytest.raises(KeyboardInterrupt), cache.making(tmp_path / "builds" / "a") as draft:
        (draft / "half").write_text("x")
        raise KeyboardInterrupt
    assert list((tmp_path / "builds").iterdir()) == []


def test_an_entry_appears_whole(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with cache.making(tmp_path / "builds" / "a") as draft:
        (draft / "file").write_text("x")
        assert not (tmp_path / "builds" / "a").exists()
    assert (tmp_path / "builds" / "a" / "file").read_text() == "x"


def _count(root: Path, times: int) -> None:
    counter = root / "counter"
    for _ in range(times):
        with Cache(root).lock("counter", Deadline.after(60)):
            counter.write_text(str(int(counter.read_text()) + 1))


def test_two_harnesses_take_turns(tmp_path: Path) -> None:
    (tmp_path / "counter").write_text("0")
    workers = [multiprocessing.Process(target=_count, args=(tmp_path, 20)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (tmp_path / "counter").read_text() == "40"


def test_a_lock_that_is_held_is_named_at_the_deadline(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with (
        cache.lock("x", Deadline.after(60)),
        pytest.raises(InfraError, match=r"another harness holds .*x\.lock"),
        cache.lock("x", Deadline.after(0)),
    ):
        raise AssertionError("the lock was given twice")


@pytest.mark.parametrize(
    ("patience_s", "told"), [(3600.0, []), (0.0, ["waiting for another harness that holds x"])]
)
def test_a_long_wait_for_a_lock_is_said_once(
    patience_s: float, told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path)
    said: list[str] = []
    looks: list[float] = []
    with contextlib.ExitStack() as other:

        def turn(seconds: float) -> None:
            looks.append(seconds)
            if len(looks) == 3:
                other.close()

        other.enter_context(cache.lock("x", Deadline.after(60)))
        monkeypatch.setattr(cache_module, "_PATIENCE_S", patience_s)
        monkeypatch.setattr(time, "sleep", turn)
        with cache.lock("x", Deadline.after(60), said.append):
            assert (said, len(looks)) == (told, 3)


def test_a_cache_that_is_no_folder_is_a_fault_of_the_machine(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    for root in (file, file / "below"):
        with pytest.raises(InfraError, match=f"cannot write {file}.*: Not a directory") as caught:
            Cache(root).folder("builds")
        assert caught.value.hint
    (tmp_path / "builds").touch()
    with pytest.raises(InfraError, match="File exists"):
        Cache(tmp_path).folder("builds")
    (tmp_path / "locks/x.lock").mkdir(parents=True)
    with pytest.raises(InfraError, match="Is a directory"), Cache(tmp_path).lock("x", Deadline.after(60)):
        raise AssertionError("a folder was locked")
    with pytest.raises(InfraError, match="File name too long"):
        write_atomically(tmp_path / ("x" * 300), b"")


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTDIR]
)
def test_a_disk_that_cannot_be_written_is_a_fault_of_the_machine(tmp_path: Path, number: int) -> None:
    with pytest.raises(InfraError, match=f"cannot write {tmp_path}") as caught, disk_errors(tmp_path):
        raise OSError(number, os.strerror(number))
    assert caught.value.hint


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), disk_errors(tmp_path):
        (tmp_path / "none").read_text()


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new" and [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_a_digest_keeps_its_parts_apart() -> None:
    assert digest(["ab", "c"]) != digest(["a", "bc"])
