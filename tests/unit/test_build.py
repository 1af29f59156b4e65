# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cache import Cache
from harness.deadline import Deadline
from harness.errors import InfraError, UserError
from harness.kernel.build import build_kernel, resolved_config, workspace_at
from harness.kernel.folder import fetch_folder
from harness.kernel.kconfig import Setting
from harness.kernel.make import BuildError
from harness.kernel.patches import Patch
from harness.kernel.spec import FolderSpec, KernelTree
from tests.unit.kernelroom import (
    MEMORY_C,
    Notes,
    build,
    change_makefile,
    changing,
    mounted,
    request,
    toy_tree,
    write_toy,
)

BREAK = changing("\tlocked = 1;", "\tlocked = unknown_name;")
CHANGE = changing("\tlocked = 1;", "\tlocked = 2;")
BACK = Patch(
    None,
    "back",
    "fix",
    CHANGE.text.replace("-\tlocked = 1;\n+\tlocked = 2;", "-\tlocked = 2;\n+\tlocked = 1;"),
    "",
    Path("back.patch"),
)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "small", "512k") as path:
        yield path


# Building


def test_build_is_stored_and_found_again(tree: KernelTree, cache: Cache) -> None:
    notes = Notes()
    first = build(request(tree), cache, notes)
    assert not first.cached
    assert ("CC mm/memory.o", 0) in [(what, total) for what, _, total in notes.updates]
    assert first.bzimage.is_file()
    assert first.system_map.is_file()
    assert first.module_symvers.is_file()
    assert "CONFIG_TINY=y" in first.config.read_text(encoding="utf-8")
    assert "CC      mm/memory.o" in first.log.read_text(encoding="utf-8")
    assert first.boot_image.stat().st_size < first.vmlinux.stat().st_size
    facts = json.loads(first.metadata.read_text(encoding="utf-8"))
    assert facts["release"] == first.release == "7.3.4"
    assert facts["command"].endswith("bzImage modules")
    again = build(request(tree), cache)
    assert again.cached
    assert (again.key, again.seconds) == (first.key, first.seconds)


def test_arms_share_a_workspace_and_rebuild_only_what_differs(tree: KernelTree, cache: Cache) -> None:
    build(request(tree), cache)
    notes = Notes()
    arm = build(request(tree, CHANGE), cache, notes)
    compiled = [(what, done, total) for what, done, total in notes.updates if what.startswith("CC")]
    assert compiled == [("CC mm/memory.o", 1, 0)]
    assert [(record.name, record.status) for record in arm.patches] == [("change.patch", "applied")]
    assert len(list((cache.root / "workspaces").iterdir())) == 1


def test_progress_counts_files_of_the_last_build_of_that_size(tree: KernelTree, cache: Cache) -> None:
    build(request(tree), cache)
    build(request(tree, CHANGE), cache)
    notes = Notes()
    build(request(tree, changing("\tlocked = 1;", "\tlocked = 3;")), cache, notes)
    assert ("CC mm/memory.o", 1, 1) in notes.updates
    first, *_ = notes.updates
    assert first[0].startswith("the last one like it took ") and first[1:] == (0, 1)


def test_two_ways_to_one_content_share_a_build_and_keep_their_own_story(
    tree: KernelTree, cache: Cache
) -> None:
    first = build(request(tree), cache)
    second = build(request(tree, CHANGE, BACK), cache)
    assert second.cached
    assert second.key == first.key
    assert first.patches == ()
    assert [record.status for record in second.patches] == ["applied", "applied"]


def test_pristine_tree_never_changes(tree: KernelTree, cache: Cache) -> None:
    build(request(tree), cache)
    linked = cache.root / "workspaces/toy/src/mm/memory.c"
    assert linked.samefile(tree.path / "mm/memory.c")
    build(request(tree, CHANGE), cache)
    assert "locked = 2" in linked.read_text(encoding="utf-8")
    assert (tree.path / "mm/memory.c").read_text(encoding="utf-8") == MEMORY_C


def test_compiler_error_is_shown_and_nothing_is_stored(tree: KernelTree, cache: Cache) -> None:
    build(request(tree), cache)
    with pytest.raises(BuildError) as caught:
        build(request(tree, BREAK), cache)
    assert caught.value.exit_code == 2
    assert "mm/memory.c:8:" in caught.value.message
    assert "locked = unknown_name;" in caught.value.message
    assert "^" in caught.value.message
    log = Path(caught.value.hint.rpartition(" ")[2])
    assert "unknown_name" in log.read_text(encoding="utf-8")
    assert len(list((cache.root / "builds").iterdir())) == 1
    # The arm after it is whole again.
    assert not build(request(tree, CHANGE), cache).cached


def test_setting_that_does_not_take_names_its_dependency(tree: KernelTree, cache: Cache) -> None:
    wanted = Setting("IMPOSSIBLE", "y", "x.config:3")
    with pytest.raises(UserError) as caught:
        build(request(tree, extra=(wanted,)), cache)
    assert caught.value.message == (
        "x.config:3: CONFIG_IMPOSSIBLE=y did not take (it is n): its dependency MISSING_PART [=n] is not met "
        "(Kconfig:4): MISSING_PART is not set, its dependency !TINY [=y] is not met (Kconfig:11): "
        "TINY is set, its default decides (Kconfig:1)"
    )


def test_configurations_have_object_folders_of_their_own(tree: KernelTree, cache: Cache) -> None:
    first = build(request(tree), cache)
    second = build(request(tree, extra=(Setting("MORE", "y", "--config"),)), cache)
    assert second.config_sha256 != first.config_sha256
    assert build(request(tree), cache).cached
    assert len(list((cache.root / "workspaces/toy").glob("obj-*"))) == 2


def test_workspace_for_modules_is_at_its_arm(tree: KernelTree, cache: Cache) -> None:
    build(request(tree), cache)
    build(request(tree, CHANGE), cache)
    with workspace_at(request(tree), cache, Notes(), Deadline.after(60)) as workspace:
        assert "locked = 1" in (workspace.src / "mm/memory.c").read_text(encoding="utf-8")
        assert (workspace.obj / "prepared").is_file()
        assert (workspace.obj / "Module.symvers").is_file()


def test_what_was_just_built_is_prepared_for_modules(tree: KernelTree, cache: Cache) -> None:
    build(request(tree), cache)
    notes = Notes()
    with workspace_at(request(tree), cache, notes, Deadline.after(60)) as workspace:
        assert not (workspace.obj / "prepared").exists()
    with pytest.raises(BuildError):
        build(request(tree, BREAK), cache)
    # Some of its objects may be of the kernel that failed.
    with workspace_at(request(tree), cache, notes, Deadline.after(60)) as workspace:
        assert (workspace.obj / "prepared").exists()
    assert notes.steps == ["preparing to build modules"]


def test_kernels_that_follow_one_another_share_an_object_folder(tree: KernelTree, cache: Cache) -> None:
    more, most = Setting("MORE", "y", "--config"), Setting("MOST", "y", "--config")
    build(request(tree), cache)
    first = replace(request(tree, extra=(more,)), follows=True)
    both = replace(request(tree, extra=(more, most)), follows=True)
    keys = [build(what, cache).key for what in (first, both)]
    (obj,) = (cache.root / "workspaces/toy").glob("obj-*")
    assert "CONFIG_MOST=y" in (obj / ".config").read_text(encoding="utf-8")
    # The same request by itself is the same kernel, wherever its objects are.
    assert build(replace(both, follows=False), cache).key == keys[1]
    build(request(tree, extra=(most,)), cache)
    assert len(list((cache.root / "workspaces/toy").glob("obj-*"))) == 2


@pytest.mark.parametrize(
    ("changed", "steps"),
    [("mm/memory.c", 0), ("mm/Kconfig", 1), ("scripts/cc-version.sh", 1), (None, 1)],
)
def test_configuration_is_resolved_again_only_if_it_may_differ(
    tree: KernelTree, cache: Cache, changed: str | None, steps: int
) -> None:
    def differs(from_ident: str) -> frozenset[str] | None:
        return frozenset([changed]) if changed and from_ident == "toy" else None

    build(request(replace(tree, changes_since=lambda ident: None)), cache)
    notes = Notes()
    second = replace(tree, ident="toy-2", changes_since=differs)
    made = build(request(second), cache, notes)
    assert notes.steps.count("configuring the kernel") == steps
    assert "CONFIG_TINY=y" in made.config.read_text(encoding="utf-8")
    assert made.key != build(request(tree), cache).key


def test_configuration_on_a_given_one(tree: KernelTree, cache: Cache) -> None:
    more = Setting("MORE", "y", "--config")
    given = replace(request(tree, extra=(more,)), base_config="CONFIG_GIVEN=y\n")
    text = resolved_config(given, cache, Notes(), Deadline.after(60))
    assert text == "CONFIG_GIVEN=y\nCONFIG_MORE=y\n"
    assert build(given, cache).config.read_text(encoding="utf-8") == text


def test_blank_in_the_cache_folder_is_refused(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "a cache")
    with pytest.raises(UserError, match="cannot be built below"):
        build(request(toy_tree(cache.folder("trees", "toy"))), cache)


def test_deadline_ends_a_build_and_leaves_nothing_finished(tree: KernelTree, cache: Cache) -> None:
    change_makefile(tree, "\t@gcc -nostdlib", "\tsleep 600; gcc -nostdlib")
    with pytest.raises(InfraError, match="did not end in time"):
        build_kernel(request(tree), cache, Notes(), Deadline.after(0.5))
    assert not list(cache.folder("builds").iterdir())


# A full disk


def test_full_disk_is_a_fault_of_the_machine(tree: KernelTree, cache: Cache, small_disk: Path) -> None:
    shutil.copytree(tree.path, small_disk / "trees/toy")
    small = Cache(small_disk)
    there = KernelTree(small_disk / "trees/toy", "7.3.4", "toy", "the toy", "toy")
    seen: list[str] = []
    for free in (120_000, 80_000, 60_000, 40_000, 20_000, 4096, 0):
        filler = small_disk / "filler"
        filler.unlink(missing_ok=True)
        room = shutil.disk_usage(small_disk).free - free
        if room < 0:
            continue
        filler.write_bytes(b"x" * room)
        try:
            build(request(there, changing("\tlocked = 1;", f"\tlocked = {free};")), small)
        except InfraError as error:
            seen.append(error.message)
        assert not [path for path in small.root.glob("builds/.*")]
    assert seen
    assert all("o space left" in message for message in seen)


# A folder of the user's


def test_folder_is_copied_and_followed(tmp_path: Path, cache: Cache) -> None:
    folder = write_toy(tmp_path / "linux")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    first = build(request(fetch_folder(FolderSpec(folder), Notes())), cache)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    (folder / "mm/memory.c").write_text(MEMORY_C.replace("locked = 1", "locked = 5"), encoding="utf-8")
    (folder / "mm/added.c").write_text("", encoding="utf-8")
    notes = Notes()
    second = build(request(fetch_folder(FolderSpec(folder), notes)), cache, notes)
    assert second.key != first.key
    assert [what for what, _, _ in notes.updates if what.startswith("CC")] == ["CC mm/memory.o"]
    (src,) = cache.root.glob("workspaces/*/src")
    assert (src / "mm/added.c").is_file()
    assert not (src / "mm/memory.c").samefile(folder / "mm/memory.c")
