# SPDX-License-Identifier: GPL-2.0-only
"""The bug's shape in real kernels: found where the bug is, not found where the fix is."""

from __future__ import annotations

import pytest

from harness.deadline import Deadline
from harness.experiment.kernels import resolve_patches
from harness.kernel.apply import apply_patches
from harness.kernel.tree import KernelTree
from harness.siblings.search import Search, search
from tests.unit.kernelroom import Notes
from tests.vm.conftest import Kernels

pytestmark = pytest.mark.vm

FILES = ("mm/memory.c", "mm/huge_memory.c", "mm/hugetlb.c")
SWAP = ("mm/memory.c", "do_swap_page", "bug")
HUGE = ("mm/huge_memory.c", "do_huge_pmd_device_private", "bug")
HUGETLB = ("mm/hugetlb.c", "hugetlb_fault", "harmless")


def searched(tree: KernelTree, *patches: str) -> Search:
    found = search(
        tree, apply_patches(tree, resolve_patches(patches, tree)), FILES, Notes(), Deadline.after(600)
    )
    assert found.unread == () and found.tried >= 8
    return found


def places(found: Search) -> set[tuple[str, str, str]]:
    return {(hit.file, hit.function, hit.verdict) for hit in found.hits}


def test_7_as_shipped_has_the_pmd_sibling_only(newest: Kernels) -> None:
    found = searched(newest.tree)
    assert places(found) == {HUGE, HUGETLB}
    assert not found.clean


def test_7_without_the_fix_has_both(newest: Kernels) -> None:
    assert places(searched(newest.tree, "trylock-starvation/without-wait")) == {SWAP, HUGE, HUGETLB}


def test_7_with_both_fixes_is_clean(newest: Kernels) -> None:
    found = searched(newest.tree, "pmd-trylock-starvation/wait-on-locked-pmd")
    assert places(found) == {HUGETLB}
    assert found.clean


def test_6_12_has_it_from_the_commit_that_brings_it_to_the_fix(linux_6_12: Kernels) -> None:
    brought = "trylock-starvation/trylock-device-page"
    assert places(searched(linux_6_12.tree)) == {HUGETLB}
    assert places(searched(linux_6_12.tree, brought)) == {SWAP, HUGETLB}
    assert places(searched(linux_6_12.tree, brought, "trylock-starvation/wait-on-locked")) == {HUGETLB}
