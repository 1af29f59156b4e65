# SPDX-License-Identifier: GPL-2.0-only
"""Kernel builds that are killed at any point, and two at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import cache as cache_module
from harness.cache import Cache
from harness.deadline import Deadline
from harness.kernel.patches import Patch
from harness.kernel.spec import KernelTree
from tests.unit.kernelroom import Notes, build, change_makefile, changing, request

# Two at once


def test_two_harnesses_at_once_build_once(tree: KernelTree, cache: Cache) -> None:
    children = [
        subprocess.Popen([sys.executable, "-c", CHILD, str(cache.root)], cwd=Path(__file__).parents[2])
        for _ in range(2)
    ]
    assert [child.wait(120) for child in children] == [0, 0]
    (stored,) = cache.folder("builds").iterdir()
    (log,) = cache.root.glob("workspaces/toy/logs/*[!g].log")
    assert log.read_text(encoding="utf-8").count("CC      mm/memory.o") == 1
    assert build(request(tree), cache).folder == stored


# Killed at any point


CHILD = """
import sys
from pathlib import Path
from harness.cache import Cache
from harness.deadline import Deadline
from harness.kernel.build import BuildRequest, build_kernel
from harness.kernel.spec import KernelTree
from tests.unit.kernelroom import Notes

root = Path(sys.argv[1])
tree = KernelTree(root / "trees/toy", "7.3.4", "toy", "the toy", "toy")
build_kernel(BuildRequest(tree, (), ()), Cache(root), Notes(), Deadline.after(120))
"""


def killed(tree: KernelTree, cache: Cache, number: signal.Signals, started: str) -> None:
    """Start a harness that builds the tree, and kill it once a file of this name is in the object folder."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(cache.root)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_for(lambda: any(cache.root.glob(f"workspaces/toy/obj-*/{started}")), child)
    finally:
        os.kill(child.pid, number)
        child.wait(120)


#: Shell in a rule of the toy's Makefile that ends with `go()`.
UNTIL_GO = "for i in $$(seq 5000); do test -e $(O)/../go && break; sleep 0.02; done"


def go(cache: Cache) -> None:
    (cache.root / "workspaces/toy/go").touch()


class GoesOn(Notes):
    """Lets what a killed harness left go on once somebody says that it is waited for."""

    def __init__(self, cache: Cache) -> None:
        super().__init__()
        self.cache = cache

    def note(self, text: str) -> None:
        super().note(text)
        if text.startswith("waiting for another harness"):
            go(self.cache)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_build_leaves_nothing_finished_and_the_next_one_goes_on(
    tree: KernelTree, cache: Cache, number: signal.Signals
) -> None:
    change_makefile(tree, "\t@gcc -nostdlib", f"\t@touch $(O)/linking; {UNTIL_GO}; gcc -nostdlib")
    killed(tree, cache, number, "linking")
    assert not list(cache.folder("builds").iterdir())
    go(cache)
    finished = build(request(tree), cache)
    assert not finished.cached
    assert finished.bzimage.is_file()


def test_compiler_that_outlives_its_harness_cannot_mix_arms(
    tree: KernelTree, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first compiler has read its source, and writes the object late: newer than the next arm's source.
    slow = (
        "\t@new=$(O)/../$(@F).$$$$; gcc -g -c -o $$new $<; if test -e $(O)/../fast; then cp $$new $@; "
        f"else touch $(O)/compiled-$(@F); {UNTIL_GO}; cp $$new $@; touch $(O)/../late-$(@F); fi"
    )
    change_makefile(tree, "\t@gcc -g -c -o $@ $<", slow)
    killed(tree, cache, signal.SIGKILL, "compiled-memory.o")
    (cache.root / "workspaces/toy/fast").touch()
    monkeypatch.setattr(cache_module, "_PATIENCE_S", 0.0)
    arm = changing("\tlocked = 1;", "\tlocked = 0x5ca1ab1e;")
    build(request(tree, arm), cache, GoesOn(cache))
    # One that does not wait for it has built the arm by now.
    go(cache)
    _wait_for((cache.root / "workspaces/toy/late-memory.o").exists)
    other = "--- a/mm/hmm.c\n+++ b/mm/hmm.c\n@@ -1,2 +1,3 @@\n int fault(void);\n+int more;\n \n"
    both = request(tree, arm, Patch(None, "more", "fix", other, "", Path("more.patch")))
    assert bytes.fromhex("1eaba15c") in build(both, cache).vmlinux.read_bytes()


def _wait_for(condition: Callable[[], bool], child: subprocess.Popen[bytes] | None = None) -> None:
    deadline = Deadline.after(120)
    while not condition():
        assert child is None or child.poll() is None
        assert not deadline.expired
        time.sleep(0.02)
