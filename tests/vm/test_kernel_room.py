# SPDX-License-Identifier: GPL-2.0-only
"""The kernel room on real source: what Debian ships, the shipped patches and fragments, a real build."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from harness.assets import asset
from harness.cache import Cache, default_cache_folder
from harness.deadline import Deadline
from harness.errors import UserError
from harness.kernel.apply import apply_patches
from harness.kernel.build import BuildRequest, build_kernel, workspace_at
from harness.kernel.kconfig import Setting
from harness.kernel.language import Kconfig
from harness.kernel.make import BuildError
from harness.kernel.patches import Catalogue, Patch, in_range
from harness.kernel.tree import DebianSpec, KernelTree, fetch_tree
from tests.unit.kernelroom import Notes

pytestmark = pytest.mark.vm

CATALOGUE = Catalogue.load()
#: As every kernel of the experiments has them, so that none more is built here.
FRAGMENTS = tuple(asset("qemu", "kconfig", f"{name}.config") for name in ("base", "microvm", "voluntary"))
CHOICE = "x86-preempt-choice"
WITHOUT = "trylock-starvation/without-wait"
TRYLOCK = "trylock-starvation/trylock-device-page"
WAIT = "trylock-starvation/wait-on-locked"


@pytest.fixture(scope="module")
def cache() -> Cache:
    return Cache(default_cache_folder())


@pytest.fixture(scope="module")
def tree7(cache: Cache) -> KernelTree:
    return fetch_tree(DebianSpec(), cache, Notes(), Deadline.after(900))


@pytest.fixture(scope="module")
def tree6(cache: Cache) -> KernelTree:
    return fetch_tree(DebianSpec("linux-source-6.12"), cache, Notes(), Deadline.after(900))


def named(tree: KernelTree, *names: str) -> tuple[Patch, ...]:
    return tuple(CATALOGUE.resolve(name, tree.version) for name in names)


def statuses(tree: KernelTree, *names: str) -> list[str]:
    return [applied.status for applied in apply_patches(tree, named(tree, *names)).patches]


def test_catalogue_on_7(tree7: KernelTree) -> None:
    assert statuses(tree7, CHOICE, WITHOUT) == ["applied", "applied"]
    assert statuses(tree7, WAIT) == ["already there"]
    stack = apply_patches(tree7, named(tree7, CHOICE, WITHOUT, WAIT))
    assert [applied.status for applied in stack.patches] == ["applied"] * 3
    assert list(stack.files) == ["arch/x86/Kconfig"]


def test_catalogue_on_6_12(tree6: KernelTree) -> None:
    assert statuses(tree6, TRYLOCK) == ["applied"]
    stack = apply_patches(tree6, named(tree6, TRYLOCK, WAIT))
    assert set(stack.files) == {"mm/memory.c", "mm/migrate_device.c"}
    with pytest.raises(UserError, match=r"hunk 1 of 1 in mm/memory\.c:4258"):
        apply_patches(tree6, named(tree6, WAIT))


@pytest.mark.parametrize(("which", "unfixed"), [("tree6", (TRYLOCK,)), ("tree7", (CHOICE, WITHOUT))])
def test_every_fix_applies_on_top_of_what_it_fixes(
    which: str, unfixed: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    tree: KernelTree = request.getfixturevalue(which)
    found = {
        # Other bugs are in the tree as shipped.
        entry.id: statuses(tree, *(unfixed if entry.bug == "trylock-starvation" else ()), entry.id)
        for entry in CATALOGUE.entries
        if entry.role == "fix" and any(in_range(tree.version, file.versions) for file in entry.files)
    }
    assert WAIT in found
    assert {name: states for name, states in found.items() if set(states) != {"applied"}} == {}


@pytest.mark.parametrize("which", ["tree6", "tree7"])
def test_kconfig_files_are_read(which: str, request: pytest.FixtureRequest) -> None:
    tree: KernelTree = request.getfixturevalue(which)
    kconfig = Kconfig(tree.path, "x86")
    assert len(kconfig.entries) > 15000
    (private,) = kconfig.entries["DEVICE_PRIVATE"]
    assert private.where.startswith("mm/Kconfig:")
    assert "ZONE_DEVICE" in {name for expr in private.all_depends for name in expr.symbols()}
    choice = kconfig.entries["PREEMPT_VOLUNTARY"][0].choice
    assert choice is not None
    assert {"PREEMPT_NONE", "PREEMPT_VOLUNTARY", "PREEMPT"} <= set(kconfig.members(choice))


def test_unmet_dependencies_are_named(tree7: KernelTree, cache: Cache) -> None:
    extra = tuple(Setting(symbol, "y", "--config") for symbol in ("EXT4_FS", "DRM_XE", "NO_SUCH_SYMBOL"))
    request = BuildRequest(tree7, named(tree7, CHOICE), FRAGMENTS, extra)
    with pytest.raises(UserError) as caught:
        build_kernel(request, cache, Notes(), Deadline.after(600))
    message = caught.value.message
    assert "CONFIG_EXT4_FS=y did not take (it is n): its dependency BLOCK [=n] is not met" in message
    assert re.search(r"CONFIG_DRM_XE=y .*DRM \[=n\] and PCI \[=n\]", message)
    assert "this tree has no such symbol" in message
    assert len(message.splitlines()) == 3


def test_what_upstream_forbids_is_named_without_the_enabler(tree7: KernelTree, cache: Cache) -> None:
    with pytest.raises(UserError) as caught:
        build_kernel(BuildRequest(tree7, (), FRAGMENTS), cache, Notes(), Deadline.after(600))
    assert re.search(
        r"voluntary\.config:\d+: CONFIG_PREEMPT_VOLUNTARY=y did not take "
        r".*!ARCH_HAS_PREEMPT_LAZY \[=y\] is not met .*"
        r"it is selected by X86 \(arch/x86/Kconfig:\d+\)",
        caught.value.message,
    )


def test_arms_of_7(tree7: KernelTree, cache: Cache, tmp_path: Path) -> None:
    """The default arms build, one as a small difference; a broken patch in between harms nothing."""
    deadline = Deadline.after(1700)
    base = build_kernel(BuildRequest(tree7, named(tree7, CHOICE), FRAGMENTS), cache, Notes(), deadline)
    assert base.release == tree7.version
    assert base.build_host.encode() in base.vmlinux.read_bytes()
    path = "mm/memory.c"
    content = (tree7.path / path).read_text(encoding="utf-8")
    marker = "vm_fault_t do_swap_page(struct vm_fault *vmf)\n{\n"
    assert content.count(marker) == 1
    line = content[: content.index(marker)].count("\n") + 1

    def with_line(text: str) -> Patch:
        first, second, third = content.splitlines()[line - 1 : line + 2]
        diff = f"--- a/{path}\n+++ b/{path}\n@@ -{line},3 +{line},4 @@\n"
        diff += f" {first}\n {second}\n+{text}\n {third}\n"
        return Patch(None, "a line", "fix", diff, "", tmp_path / "line.patch")

    broken = BuildRequest(tree7, (*named(tree7, CHOICE), with_line("\tno_such_name = 1;")), FRAGMENTS)
    with pytest.raises(BuildError) as caught:
        build_kernel(broken, cache, Notes(), deadline)
    assert f"mm/memory.c:{line + 2}:" in caught.value.message
    assert "no_such_name" in caught.value.message
    assert "^~" in caught.value.message

    # The folder's name makes it a content that was not built before; whatever was built last, the objects are
    # of a kernel like this one then.
    before = with_line(f'\tstatic const char mark[] __used = "{tmp_path} before";')
    build_kernel(BuildRequest(tree7, (*named(tree7, CHOICE), before), FRAGMENTS), cache, Notes(), deadline)
    unique = with_line(f'\tstatic const char mark[] __used = "{tmp_path}";')
    notes = Notes()
    changed = build_kernel(
        BuildRequest(tree7, (*named(tree7, CHOICE, WITHOUT), unique), FRAGMENTS), cache, notes, deadline
    )
    assert str(tmp_path).encode() in changed.vmlinux.read_bytes()
    compiled = [what for what, _, _ in notes.updates if what.startswith("CC ")]
    assert "CC mm/memory.o" in compiled
    assert len(compiled) < 12
    again = build_kernel(BuildRequest(tree7, named(tree7, CHOICE), FRAGMENTS), cache, Notes(), deadline)
    assert again.cached
    assert again.key == base.key


def test_module_builds_against_a_stored_kernel(tree7: KernelTree, cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("obj-m := probe.o\n", encoding="utf-8")
    (tmp_path / "probe.c").write_text(
        "#include <linux/hmm.h>\n#include <linux/module.h>\n"
        "static int __init probe_init(void)\n{\n\treturn hmm_range_fault(NULL);\n}\n"
        'module_init(probe_init);\nMODULE_LICENSE("GPL");\nMODULE_DESCRIPTION("a probe");\n',
        encoding="utf-8",
    )
    request = BuildRequest(tree7, named(tree7, CHOICE), FRAGMENTS)
    with workspace_at(request, cache, Notes(), Deadline.after(1700)) as workspace:
        done = subprocess.run(
            ["make", "-C", str(workspace.obj), f"M={tmp_path}", "modules"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "undefined" not in done.stderr
        assert "WARNING" not in done.stderr
        text = (workspace.src / "mm/memory.c").read_text(encoding="utf-8")
    assert text == (tree7.path / "mm/memory.c").read_text(encoding="utf-8")
    assert (tmp_path / "probe.ko").is_file()
