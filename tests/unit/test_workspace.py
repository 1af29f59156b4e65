# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from harness import cache as cache_module
from harness.cache import Cache
from harness.deadline import Deadline
from harness.errors import InfraError
from harness.kernel import workspace as workspace_module
from harness.kernel.spec import KernelTree
from harness.kernel.workspace import SourceFolder, building
from tests.unit.kernelroom import MEMORY_C, toy_tree


def test_source_that_a_killed_run_left_in_between_is_brought_to_what_is_wanted(
    tree: KernelTree, cache: Cache
) -> None:
    source = SourceFolder(cache, tree)
    source.bring_to({"mm/memory.c": b"one\n", "mm/new.c": b"new\n"}, Deadline.after(120))
    # As if the run had ended after the record and before the second file.
    (source.src / "mm/memory.c").write_bytes(b"half")
    source.bring_to({"mm/hmm.c": None}, Deadline.after(120))
    assert (source.src / "mm/memory.c").read_text(encoding="utf-8") == MEMORY_C
    assert not (source.src / "mm/new.c").exists()
    assert not (source.src / "mm/hmm.c").exists()


def test_only_files_that_differ_get_a_new_time(tree: KernelTree, cache: Cache) -> None:
    source = SourceFolder(cache, tree)
    source.bring_to({"mm/memory.c": b"one\n"}, Deadline.after(120))
    before = {path: path.stat().st_mtime_ns for path in source.src.rglob("*.c")}
    source.bring_to({"mm/memory.c": b"one\n", "mm/hmm.c": b"two\n"}, Deadline.after(120))
    moved = [path.name for path, when in before.items() if path.stat().st_mtime_ns != when]
    assert moved == ["hmm.c"]


def test_a_file_written_after_the_clock_went_back_is_newer_than_the_objects(
    tree: KernelTree, cache: Cache
) -> None:
    source = SourceFolder(cache, tree)
    source.bring_to({}, Deadline.after(120))
    state = source.folder / "state.json"
    record = json.loads(state.read_text(encoding="utf-8"))
    later = time.time_ns() + 3600 * 10**9
    state.write_text(json.dumps({**record, "stamp": later}), encoding="utf-8")
    source.bring_to({"mm/memory.c": b"one\n"}, Deadline.after(120))
    assert (source.src / "mm/memory.c").stat().st_mtime_ns > later


def revision(cache: Cache, ident: str, **files: str) -> KernelTree:
    """A tree of the origin "repository" with these files ("__" for "/") beside the toy's."""
    tree = toy_tree(cache.folder("trees", ident))
    for name, text in files.items():
        path = tree.path / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("->"):
            path.symlink_to(text.removeprefix("->"))
        else:
            path.write_text(text, encoding="utf-8")
    return replace(tree, ident=ident, origin="repository")


def content(folder: Path) -> dict[str, str]:
    """Path -> text, or link, of all files; a folder without one as itself."""
    found: dict[str, str] = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"->{os.readlink(path)}"
        elif path.is_file():
            found[name] = path.read_text(encoding="utf-8")
        elif not any(path.iterdir()):
            found[name] = "empty"
    return found


def test_each_revision_is_built_from_its_own_source(cache: Cache) -> None:
    one = revision(cache, "one", mm__changed="1\n", mm__same="s\n", old__gone="g\n", mm__link="->same")
    two = revision(cache, "two", mm__changed="2\n", mm__same="s\n", new__added="a\n", mm__link="->changed")
    for tree in (one, two, one, two):
        source = SourceFolder(cache, tree)
        source.bring_to({}, Deadline.after(120))
        assert content(source.src) == content(tree.path)
    assert (source.src / "mm/same").samefile(one.path / "mm/same")
    assert content(one.path)["mm/changed"] == "1\n"


def diff(one: KernelTree, other: KernelTree) -> frozenset[str]:
    """The paths of files that differ between two trees, by their content, kind or mode."""
    before, after = content(one.path), content(other.path)
    names = before.keys() | after.keys()
    modes = {
        name for name in before.keys() & after.keys() if mode(one.path / name) != mode(other.path / name)
    }
    return frozenset(name for name in names if before.get(name) != after.get(name)) | modes


def mode(path: Path) -> int:
    return path.lstat().st_mode


def knowing(trees: Sequence[KernelTree], asked: list[str]) -> list[KernelTree]:
    """The trees, each able to say how it differs from the others; `asked` hears of whom."""
    by_ident = {tree.ident: tree for tree in trees}

    def changes_since(tree: KernelTree, ident: str) -> frozenset[str] | None:
        asked.append(ident)
        return diff(by_ident[ident], tree) if ident in by_ident else None

    return [replace(tree, changes_since=partial(changes_since, tree)) for tree in trees]


def test_a_tree_that_knows_what_changed_is_only_looked_at_there(cache: Cache) -> None:
    asked: list[str] = []
    one, two, three = knowing(
        [
            revision(cache, "one", mm__changed="1\n", old__gone="g\n", mm__link="->changed", mm__part="p\n"),
            revision(
                cache, "two", mm__changed="2\n", new__added="a\n", mm__link="->added", mm__part__a="a\n"
            ),
            revision(cache, "three", mm__changed="2\n", mm__link="plain\n", mm__part="->hmm.c"),
        ],
        asked,
    )
    (three.path / "mm/changed").chmod(0o755)
    source = SourceFolder(cache, one)
    source.bring_to({}, Deadline.after(120))
    untouched = source.src / "mm/hmm.c"
    untouched.unlink()
    untouched.write_text("not looked at\n", encoding="utf-8")
    for tree in (two, one, three, two, three, one):
        SourceFolder(cache, tree).bring_to({}, Deadline.after(120))
        assert content(source.src) == {**content(tree.path), "mm/hmm.c": "not looked at\n"}
        assert mode(source.src / "mm/changed") == mode(tree.path / "mm/changed")
    assert asked == ["one", "two", "one", "three", "two", "three"]


def test_what_changed_joins_what_patches_touch(cache: Cache) -> None:
    one, two = knowing(
        [revision(cache, "one", mm__a="1\n", mm__b="1\n"), revision(cache, "two", mm__a="2\n", mm__b="1\n")],
        [],
    )
    source = SourceFolder(cache, one)
    source.bring_to({"mm/b": b"patched\n", "mm/new": b"new\n"}, Deadline.after(120))
    SourceFolder(cache, two).bring_to({"mm/a": b"patched\n"}, Deadline.after(120))
    assert content(source.src) == {**content(two.path), "mm/a": "patched\n"}
    SourceFolder(cache, one).bring_to({"mm/b": None}, Deadline.after(120))
    expected = content(one.path)
    del expected["mm/b"]
    assert content(source.src) == expected


def test_a_patched_file_is_what_it_is_in_its_tree_but_for_its_content(cache: Cache) -> None:
    one, two = knowing([revision(cache, "one", mm__a="1\n"), revision(cache, "two", mm__a="1\n")], [])
    (two.path / "mm/a").chmod(0o755)
    (two.path / "mm/b").symlink_to("a")
    source = SourceFolder(cache, one)
    for tree in (one, two, one):
        SourceFolder(cache, tree).bring_to({"mm/a": b"patched\n"}, Deadline.after(120))
        assert mode(source.src / "mm/a") == mode(tree.path / "mm/a")
    SourceFolder(cache, two).bring_to({}, Deadline.after(120))
    SourceFolder(cache, two).bring_to({"mm/b": b"1\n"}, Deadline.after(120))
    assert content(source.src) == {**content(two.path), "mm/b": "1\n"}


def test_the_time_of_a_file_that_was_patched_proves_nothing(tree: KernelTree, cache: Cache) -> None:
    source = SourceFolder(cache, tree)
    ours, theirs = source.src / "mm/memory.c", tree.path / "mm/memory.c"
    source.bring_to({"mm/memory.c": MEMORY_C.replace("locked", "LOCKED").encode()}, Deadline.after(120))
    os.utime(ours, ns=(theirs.stat().st_atime_ns, theirs.stat().st_mtime_ns))
    source.bring_to({}, Deadline.after(120))
    assert ours.read_text(encoding="utf-8") == MEMORY_C


def test_a_run_that_is_killed_between_two_trees_leaves_nothing_unknown(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"mm__{letter}" for letter in "abcd"]
    trees = [
        revision(cache, "one", **dict.fromkeys(names, "1\n")),
        revision(cache, "two", **dict.fromkeys(names, "2\n")),
        revision(cache, "three", mm__a="1\n", mm__b="3\n", mm__c="2\n", mm__e="e\n"),
    ]
    one, two, three = knowing(trees, [])
    put = workspace_module._put
    for writes in range(5):
        source = SourceFolder(cache, one)
        source.bring_to({}, Deadline.after(120))
        left = [None] * writes

        def failing(path: Path, text: bytes, mode: int, stamp: int, left: list[None] = left) -> None:
            if not left:
                raise KeyboardInterrupt
            left.pop()
            put(path, text, mode, stamp)

        monkeypatch.setattr(workspace_module, "_put", failing)
        with contextlib.suppress(KeyboardInterrupt):
            SourceFolder(cache, two).bring_to({}, Deadline.after(120))
        monkeypatch.setattr(workspace_module, "_put", put)
        SourceFolder(cache, three).bring_to({}, Deadline.after(120))
        assert content(source.src) == content(three.path)


def test_a_tree_that_is_gone_is_not_taken_for_an_empty_one(cache: Cache) -> None:
    one, two = revision(cache, "one"), revision(cache, "two")
    source = SourceFolder(cache, one)
    source.bring_to({}, Deadline.after(120))
    two.path.rename(two.path.with_name("moved"))
    with pytest.raises(InfraError, match="two is gone"):
        SourceFolder(cache, two).bring_to({}, Deadline.after(120))
    assert content(source.src) == content(one.path)


def test_what_was_no_part_of_the_change_keeps_its_time(cache: Cache) -> None:
    one = revision(cache, "one", mm__changed="1\n", mm__same="s\n")
    two = revision(cache, "two", mm__changed="2\n", mm__same="s\n")
    source = SourceFolder(cache, one)
    source.bring_to({}, Deadline.after(120))
    source.stamp()
    made = time.time_ns()
    before = (source.src / "mm/same").stat().st_mtime_ns
    SourceFolder(cache, two).bring_to({}, Deadline.after(120))
    assert (source.src / "mm/same").stat().st_mtime_ns == before
    assert (source.src / "mm/changed").stat().st_mtime_ns > made


def test_a_path_turns_from_file_to_folder_and_back(cache: Cache) -> None:
    trees = (
        revision(cache, "file", mm__part="file\n"),
        revision(cache, "folder", mm__part__one__a="a\n", mm__part__b="b\n"),
        revision(cache, "link", mm__part="->memory.c"),
    )
    for index in (0, 1, 0, 2, 1, 2, 0):
        source = SourceFolder(cache, trees[index])
        source.bring_to({}, Deadline.after(120))
        assert content(source.src) == content(trees[index].path)


def test_a_patched_path_turns_from_file_to_folder_and_back(cache: Cache) -> None:
    file = revision(cache, "file", mm__part="file\n")
    folder = revision(cache, "folder", mm__part__a="a\n", mm__part__b="b\n")
    patched: tuple[tuple[KernelTree, dict[str, bytes | None]], ...] = (
        (file, {"mm/part": b"patched\n"}),
        (folder, {"mm/part/a": b"patched\n"}),
        (file, {"mm/part": None, "mm/part/a": b"by a patch\n"}),
        (folder, {"mm/part/a": None, "mm/part/b": None, "mm/part": b"by a patch\n"}),
        (folder, {}),
        (file, {"mm/part": None}),
        (folder, {"mm/part/a": None}),
        (file, {}),
    )
    for tree, wanted in patched:
        source = SourceFolder(cache, tree)
        source.bring_to(wanted, Deadline.after(120))
        expected = content(tree.path)
        for path, text in wanted.items():
            expected.pop(path, None)
            if text is not None:
                expected[path] = text.decode()
        assert content(source.src) == expected


def test_a_folder_for_objects_that_cannot_be_written_is_a_fault_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InfraError, match="Not a directory"), building(tmp_path / "file"):
        raise AssertionError("the block was entered")


def test_waiting_for_another_build_is_said(
    tree: KernelTree, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "_PATIENCE_S", 0.0)
    source = SourceFolder(cache, tree)
    with contextlib.ExitStack() as other:
        other.enter_context(cache.lock("workspace-toy", Deadline.after(120)))
        said: list[str] = []

        def give_up(text: str) -> None:
            said.append(text)
            other.close()

        with source.locked(Deadline.after(120), give_up):
            assert said == ["waiting for another harness that holds workspace-toy"]


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
