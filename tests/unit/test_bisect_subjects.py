# SPDX-License-Identifier: GPL-2.0-only
"""Commits and patches as what is bisected, on toy trees that the real make and gcc build."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.bisect.commits import CommitSubject
from harness.bisect.model import BAD, GOOD, History, UnusableError
from harness.bisect.series import SeriesSubject
from harness.config import KernelConfig
from harness.errors import InfraError, UserError
from harness.experiment.kernels import patches_for_bisection
from harness.experiment.options import Workshop
from harness.kernel.patches import Catalogue
from harness.kernel.spec import KernelTree
from tests.unit.bisectroom import WITH_MODULES, notes_of, put, workshop_with
from tests.unit.kernelroom import MAKEFILE, MEMORY_C, toy_tree, write_toy

ENABLER = "x86-preempt-choice"


@pytest.fixture
def workshop(tmp_path: Path, programs: Path) -> Workshop:
    return workshop_with(tmp_path / "cache", programs)


def diff(old: str, new: str, title: str = "a change") -> str:
    """A mail whose diff replaces a line of mm/memory.c."""
    lines = MEMORY_C.splitlines()
    at = lines.index(old) + 1
    added = "".join(f"+{line}\n" for line in new.split("\n"))
    return (
        f"From mboxrd@z Thu Jan  1 00:00:00 1970\nFrom: A <a@example.org>\nSubject: [PATCH] {title}\n\n"
        f"--- a/mm/memory.c\n+++ b/mm/memory.c\n@@ -{at - 1},3 +{at - 1},{2 + added.count('+')} @@\n"
        f" {lines[at - 2]}\n-{old}\n{added} {lines[at]}\n"
    )


# Commits


class Trees:
    """Commits of the toy; those that begin with b, d, e are no C, on a full disk, no kernel at all."""

    def __init__(self, folder: Path, makefile: str = WITH_MODULES, version: str = "7.3.4") -> None:
        self.folder = folder
        self.makefile = makefile
        self.version = version

    def tree(self, commit: str) -> KernelTree:
        path = write_toy(self.folder / commit)
        put(path / "Makefile", self.makefile)
        if commit[0] == "b":
            put(path / "mm/memory.c", MEMORY_C.replace("locked = 1", "locked = unknown_name"))
        if commit[0] == "d":
            raise InfraError("no space left")
        if commit[0] == "e":
            raise UserError("no kernel source there")
        return KernelTree(path, self.version, f"toy-{commit[:4]}", f"the toy at {commit[:12]}", "toy")

    def title(self, commit: str) -> str:
        return f"title of {commit[0]}"

    def reverted(self, bad: str, commit: str) -> str | None:
        return "c" * 40 if commit[0] == "a" else None


def commits(trees: Trees, kernel: KernelConfig | None = None, extra: Sequence[str] = ()) -> CommitSubject:
    history = History(tuple(letter * 40 for letter in "abde"), ((), (0,), (1,), (2,)))
    kernel = kernel or KernelConfig()
    return CommitSubject(trees, "9" * 40, "e" * 40, history, kernel, extra, "microvm")


def test_commits_have_names_and_labels(tmp_path: Path) -> None:
    subject = commits(Trees(tmp_path))
    assert [subject.name(place) for place in (GOOD, 0, 1, BAD)] == [c * 40 for c in "9abe"]
    assert subject.label(1) == "bbbbbbbbbbbb title of b"
    assert subject.label(GOOD) == "999999999999 title of 9"


def test_commit_is_built_without_the_module_that_nobody_loads(tmp_path: Path, workshop: Workshop) -> None:
    kernel = commits(Trees(tmp_path)).kernel(0, workshop)
    assert kernel.build.bzimage.is_file()
    assert kernel.programs.module.is_file()
    assert kernel.programs.selftest is None


def test_commits_share_objects_and_the_kernel_is_not_prepared_twice(
    tmp_path: Path, workshop: Workshop
) -> None:
    subject = commits(Trees(tmp_path))
    subject.kernel(GOOD, workshop)
    notes_of(workshop).updates.clear()
    without = subject.without(0, workshop)
    assert without is not None
    assert len(list(workshop.cache.root.glob("workspaces/toy/obj-*"))) == 1
    assert not [what for what, _, _ in notes_of(workshop).updates if what.startswith("CC")]
    assert "preparing to build modules" not in notes_of(workshop).steps
    assert subject.without(1, workshop) is None


def test_commit_that_does_not_compile_is_skipped_with_the_error(tmp_path: Path, workshop: Workshop) -> None:
    with pytest.raises(UnusableError) as caught:
        commits(Trees(tmp_path)).kernel(1, workshop)
    assert caught.value.message.startswith("the kernel does not build: mm/memory.c:8:")
    assert "unknown_name" in caught.value.message
    assert len(caught.value.message.splitlines()) == 1


def test_commit_whose_module_does_not_build_is_skipped(tmp_path: Path, workshop: Workshop) -> None:
    with pytest.raises(UnusableError, match=r"hmm_harness\.ko does not build against 7\.3\.4: make"):
        commits(Trees(tmp_path, MAKEFILE)).kernel(0, workshop)


def test_commit_without_source_is_skipped_and_a_fault_of_the_machine_is_none(
    tmp_path: Path, workshop: Workshop
) -> None:
    subject = commits(Trees(tmp_path))
    with pytest.raises(UnusableError, match="no kernel source there"):
        subject.kernel(BAD, workshop)
    with pytest.raises(InfraError, match="no space left"):
        subject.kernel(2, workshop)


def test_patch_of_the_users_goes_on_every_commit(tmp_path: Path, workshop: Workshop) -> None:
    ours = put(tmp_path / "ours.patch", diff("\tlocked = 1;", "\tlocked = 2;"))
    build = commits(Trees(tmp_path / "trees"), extra=[ours]).kernel(0, workshop).build
    assert [(patch.name, patch.status) for patch in build.patches] == [("ours.patch", "applied")]
    with pytest.raises(UnusableError, match=r"ours\.patch does not apply .*hunk 1 of 1 in mm/memory\.c:7"):
        commits(Trees(tmp_path / "trees"), extra=[ours]).kernel(1, workshop)


def test_setting_that_a_commit_does_not_have_is_a_reason(tmp_path: Path, workshop: Workshop) -> None:
    kernel = KernelConfig(config=("CONFIG_IMPOSSIBLE=y",))
    with pytest.raises(UnusableError, match=r"CONFIG_IMPOSSIBLE=y did not take .* MISSING_PART"):
        commits(Trees(tmp_path), kernel).kernel(0, workshop)


def test_enabler_is_left_off_where_it_covers_nothing(tmp_path: Path) -> None:
    old = Trees(tmp_path, version="6.19.0").tree("a" * 40)
    assert patches_for_bisection([ENABLER], old) == ()
    new = dataclasses.replace(old, version="7.0.0-rc1")
    assert [patch.id for patch in patches_for_bisection([ENABLER], new)] == [ENABLER]
    with pytest.raises(UserError, match=r"no file for kernel 6\.19\.0"):
        patches_for_bisection(["trylock-starvation/without-wait"], old)
    with pytest.raises(UserError, match="no patch 'x86-preempt-choise'"):
        patches_for_bisection(["x86-preempt-choise"], old)


def test_build_fixes_go_on_by_themselves_where_they_apply(tmp_path: Path) -> None:
    put(tmp_path / "one.patch", diff("\tlocked = 1;", "\tlocked = 2;"))
    put(
        tmp_path / "no.patch",
        diff("\tlocked = 1;", "\tlocked = 3;").replace("-\tlocked = 1", "-\tlocked = 9"),
    )
    listing = "patches:\n" + "".join(
        f"  - id: {name}\n    role: {role}\n    title: t\n    upstream: u\n"
        f"    files: [{{versions: '{versions}', file: {file}}}]\n"
        for name, role, versions, file in (
            ("applies", "build-fix", ">=7.0,<8.0", "one.patch"),
            ("conflicts", "build-fix", ">=7.0", "no.patch"),
            ("other-range", "build-fix", "<7.0", "one.patch"),
            ("named", "fix", ">=7.0", "one.patch"),
        )
    )
    catalogue = Catalogue.load(Path(put(tmp_path / "catalogue.yaml", listing)))
    tree = toy_tree(tmp_path / "toy")
    assert [patch.id for patch in patches_for_bisection(["named"], tree, catalogue)] == ["applies", "named"]
    assert patches_for_bisection([], dataclasses.replace(tree, version="8.1.0"), catalogue) == ()


# Patches


def series(tmp_path: Path, *files: str, base: Sequence[str] = ()) -> SeriesSubject:
    tree = toy_tree(tmp_path / "tree")
    put(tree.path / "Makefile", WITH_MODULES)
    return SeriesSubject.of(tree, files, KernelConfig(), base, "microvm")


def mbox(tmp_path: Path) -> str:
    """Three patches: a harmless one, one that does not compile until the third mends it."""
    mails = (
        diff("\tif (locked)", "\tif (locked > 0)", "mm: harmless"),
        diff("\tlocked = 1;", "\tlocked = more;", "mm: break it"),
        diff("int locked;", "int locked;\nint more = 1;", "mm: mend it"),
    )
    return put(tmp_path / "three.mbox", "".join(f"{mail}\n" for mail in mails))


def test_series_is_a_line_of_candidates(tmp_path: Path) -> None:
    subject = series(tmp_path, mbox(tmp_path))
    assert subject.history.names == tuple(f"000{number}-three.mbox" for number in (1, 2, 3))
    assert subject.history.parents == ((), (0,), (1,))
    assert subject.name(BAD) == subject.name(2) != subject.name(GOOD)
    assert [subject.label(place) for place in (GOOD, 1, BAD)] == [
        "without the 3 patches",
        "2/3 mm: break it",
        "with all 3 patches",
    ]


def test_candidate_has_the_patches_up_to_its_own(tmp_path: Path, workshop: Workshop) -> None:
    subject = series(tmp_path, mbox(tmp_path))
    builds = {place: subject.kernel(place, workshop).build for place in (GOOD, 0, 2, BAD)}
    assert [len(builds[place].patches) for place in (GOOD, 0, 2, BAD)] == [0, 1, 3, 3]
    assert builds[2].key == builds[BAD].key
    with pytest.raises(UnusableError, match=r"does not build: mm/memory\.c:8:.*more"):
        subject.kernel(1, workshop)
    without = subject.without(0, workshop)
    assert without is not None
    assert [patch.title for patch in without.build.patches] == ["mm: break it", "mm: mend it"]


def test_patch_that_others_need_cannot_be_taken_out(tmp_path: Path, workshop: Workshop) -> None:
    first = put(tmp_path / "one.patch", diff("\tlocked = 1;", "\tlocked = 2;"))
    second = put(tmp_path / "two.patch", Path(first).read_text().replace("= 2", "= 3").replace("= 1", "= 2"))
    subject = series(tmp_path, first, second)
    assert subject.history.names == ("one.patch", "two.patch")
    assert subject.without(0, workshop) is None


def test_what_the_tree_has_already_is_no_candidate(tmp_path: Path) -> None:
    first = put(tmp_path / "one.patch", diff("\tlocked = 1;", "\tlocked = 2;"))
    other = put(tmp_path / "other.patch", diff("\tif (locked)", "\tif (locked > 0)"))
    assert series(tmp_path, first, other, base=[first]).history.names == ("other.patch",)
    with pytest.raises(UserError, match="has all of the 1 patches already"):
        series(tmp_path, first, base=[first])


def test_series_that_does_not_apply_as_a_whole_is_refused(tmp_path: Path) -> None:
    first = put(tmp_path / "one.patch", diff("\tlocked = 1;", "\tlocked = 2;"))
    clash = put(tmp_path / "clash.patch", diff("\tlocked = 1;", "\tlocked = 3;"))
    with pytest.raises(UserError, match=r"clash\.patch does not apply"):
        series(tmp_path, first, clash)
    with pytest.raises(UserError, match="no patch to bisect"):
        series(tmp_path)
