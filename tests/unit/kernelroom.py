# SPDX-License-Identifier: GPL-2.0-only
"""What the tests of the kernel room share: a progress that keeps what it is told, and a toy tree.

The toy has a Makefile with kbuild's targets and a Kconfig; the real make and gcc compile it in a second.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.cache import Cache
from harness.deadline import Deadline
from harness.kernel.build import BuildRequest, KernelBuild, build_kernel
from harness.kernel.kconfig import Setting
from harness.kernel.patches import Patch
from harness.kernel.spec import KernelTree

MAKEFILE = """\
VERSION = 7
PATCHLEVEL = 3
SUBLEVEL = 4
EXTRAVERSION =
.DELETE_ON_ERROR:
objs := $(O)/mm/memory.o $(O)/mm/hmm.o
tinyconfig:
\t@mkdir -p $(O)
\t@echo CONFIG_TINY=y > $(O)/.config
olddefconfig:
\t@grep -v CONFIG_IMPOSSIBLE $(O)/.config > $(O)/.config.new; mv $(O)/.config.new $(O)/.config
bzImage: $(O)/arch/x86/boot/bzImage
modules: $(O)/vmlinux
\t@mkdir -p $(O)/include/config; echo 7.3.4 > $(O)/include/config/kernel.release
\t@touch $(O)/Module.symvers $(O)/modules.order
modules_prepare:
\t@touch $(O)/prepared
$(O)/arch/x86/boot/bzImage: $(O)/vmlinux
\t@mkdir -p $(@D); cp $< $@; echo 0 T start > $(O)/System.map
$(O)/vmlinux: $(objs)
\t@gcc -nostdlib -static -Wl,-e,start -o $@ $^
$(O)/%.o: %.c $(O)/.config
\t@mkdir -p $(@D)
\t@echo "  CC      $*.o"
\t@gcc -g -c -o $@ $<
"""

MEMORY_C = """\
/* The toy's memory management. */
int locked;

int trylock(void)
{
\tif (locked)
\t\treturn 0;
\tlocked = 1;
\treturn 1;
}

int fault(void)
{
\tif (trylock())
\t\treturn 1;
\treturn 0;
}
"""

HMM_C = """\
int fault(void);

void start(void)
{
\twhile (!fault())
\t\t;
}
"""

KCONFIG = """\
config TINY
\tbool "Tiny"

config IMPOSSIBLE
\tbool "Impossible"
\tdepends on MISSING_PART
\thelp
\t  This text must not be read:
\t  config HELP_IS_NO_SYMBOL

config MISSING_PART
\tbool "A part"
\tdepends on !TINY
"""


class Notes:
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.steps: list[str] = []
        self.updates: list[tuple[str, int, int]] = []

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Notes]:
        self.steps.append(title)
        yield self

    def update(self, what: str, done: int = 0, total: int = 0) -> None:
        self.updates.append((what, done, total))

    def note(self, text: str) -> None:
        self.notes.append(text)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], running: str = "") -> None:
        raise AssertionError("the kernel room shows no table")


def write_toy(path: Path) -> Path:
    """Write the toy's files below `path`."""
    for name, text in {
        "Makefile": MAKEFILE,
        "Kconfig": KCONFIG,
        "mm/memory.c": MEMORY_C,
        "mm/hmm.c": HMM_C,
    }.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return path


def toy_tree(path: Path) -> KernelTree:
    """The toy as a tree that nobody changes."""
    return KernelTree(write_toy(path), "7.3.4", "toy", "the toy", "toy")


@contextlib.contextmanager
def mounted(path: Path, size: str) -> Iterator[Path]:
    """A small file system of its own; the test is skipped where one cannot be mounted."""
    path.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        import pytest  # takes longer than all else here, and programs that tests kill import this

        pytest.skip(f"a full disk needs a file system of its own: {done.stderr.strip()}")
    try:
        yield path
    finally:
        # The cache deletes in the background, and may still be at it.
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def changing(old: str, new: str) -> Patch:
    """A patch of mm/memory.c that replaces one line."""
    lines = MEMORY_C.splitlines()
    at = lines.index(old) + 1
    text = f"--- a/mm/memory.c\n+++ b/mm/memory.c\n@@ -{at - 1},3 +{at - 1},3 @@\n"
    text += f" {lines[at - 2]}\n-{old}\n+{new}\n {lines[at]}\n"
    return Patch(None, "a change", "fix", text, "", Path("change.patch"))


def change_makefile(tree: KernelTree, old: str, new: str) -> None:
    makefile = tree.path / "Makefile"
    makefile.write_text(makefile.read_text().replace(old, new))


def request(tree: KernelTree, *patches: Patch, extra: tuple[Setting, ...] = ()) -> BuildRequest:
    return BuildRequest(tree, patches, (), extra)


def build(what: BuildRequest, cache: Cache, notes: Notes | None = None) -> KernelBuild:
    return build_kernel(what, cache, notes or Notes(), Deadline.after(120))
