# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from harness.cache import Cache
from harness.deadline import Deadline
from harness.kernel.spec import KernelTree
from harness.kernel.workspace import SourceFolder, building
from tests.unit.kernelroom import MEMORY_C, toy_tree


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def tree(cache: Cache) -> KernelTree:
    return toy_tree(cache.folder("trees", "toy"))


def test_source_that_a_killed_run_left_in_between_is_brought_to_what_is_wanted(
    tree: KernelTree, cache: Cache
) -> None:
    source = SourceFolder(cache, tree)
    source.bring_to({"mm/memory.c": b"one\n", "mm/new.c": b"new\n"}, Deadline.after(10))
    # As if the run had ended after the record and before the second file.
    (source.src / "mm/memory.c").write_bytes(b"half")
    source.bring_to({"mm/hmm.c": None}, Deadline.after(10))
    assert (source.src / "mm/memory.c").read_text(encoding="utf-8") == MEMORY_C
    assert not (source.src / "mm/new.c").exists()
    assert not (source.src / "mm/hmm.c").exists()


def test_only_files_that_differ_get_a_new_time(tree: KernelTree, cache: Cache) -> None:
    source = SourceFolder(cache, tree)
    source.bring_to({"mm/memory.c": b"one\n"}, Deadline.after(10))
    before = {path: path.stat().st_mtime_ns for path in source.src.rglob("*.c")}
    source.bring_to({"mm/memory.c": b"one\n", "mm/hmm.c": b"two\n"}, Deadline.after(10))
    moved = [path.name for path, when in before.items() if path.stat().st_mtime_ns != when]
    assert moved == ["hmm.c"]


def test_a_file_written_after_the_clock_went_back_is_newer_than_the_objects(
    tree: KernelTree, cache: Cache
) -> None:
    source = SourceFolder(cache, tree)
    source.bring_to({}, Deadline.after(10))
    state = source.folder / "state.json"
    record = json.loads(state.read_text(encoding="utf-8"))
    later = time.time_ns() + 3600 * 10**9
    state.write_text(json.dumps({**record, "stamp": later}), encoding="utf-8")
    source.bring_to({"mm/memory.c": b"one\n"}, Deadline.after(10))
    assert (source.src / "mm/memory.c").stat().st_mtime_ns > later


def test_objects_of_a_killed_make_that_may_be_half_written_are_dropped(tmp_path: Path) -> None:
    old, new = tmp_path / "old.o", tmp_path / "new.o"
    old.touch()
    new.touch()
    os.utime(old, (time.time() - 100, time.time() - 100))
    with pytest.raises(KeyboardInterrupt), building(tmp_path):
        raise KeyboardInterrupt
    with building(tmp_path):
        assert old.exists()
        assert not new.exists()
        new.touch()
    with building(tmp_path):
        assert new.exists()
