# SPDX-License-Identifier: GPL-2.0-only
"""What kernel is asked for, and what is had: the values at the door of `build`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.kernel.apply import Applied
from harness.kernel.kconfig import Setting
from harness.kernel.patches import Patch
from harness.kernel.spec import KernelTree


@dataclass(frozen=True)
class BuildRequest:
    """A kernel that is wanted.

    fragments: files of configuration. extra: single settings on top. jobs: of make; 0 is one more than CPUs.
    base_config: the text of a .config that all these settings go on; empty: tinyconfig. follows: one of many
    kernels that follow one another (a bisection): it takes over the objects of the configuration nearest to
    its own instead of keeping a folder of its own.
    """

    tree: KernelTree
    patches: tuple[Patch, ...]
    fragments: tuple[Path, ...]
    extra: tuple[Setting, ...] = ()
    jobs: int = 0
    base_config: str = ""
    follows: bool = False


@dataclass(frozen=True)
class PatchRecord:
    """What a report says of a patch. name: id in the catalogue, or the file's name. sha256: of the diff."""

    name: str
    title: str
    role: str
    status: str
    note: str
    sha256: str

    @classmethod
    def of(cls, applied: Applied) -> PatchRecord:
        patch = applied.patch
        return cls(patch.name, patch.title, patch.role, applied.status, patch.note, patch.sha256)


@dataclass(frozen=True)
class KernelBuild:
    """A finished kernel in the cache, and what it was made of.

    release: as `uname -r` prints it. commit: of its source from git; empty: none. seconds: that the build
    took, whenever it was. command: repeats the make run. cached: it was there already. build_host: what
    /proc/version of the running kernel names.
    """

    key: str
    folder: Path
    release: str
    tree: str
    tree_ident: str
    commit: str
    version: str
    patches: tuple[PatchRecord, ...]
    config_sha256: str
    compiler: str
    command: str
    seconds: float
    cached: bool

    @property
    def build_host(self) -> str:
        return build_host(self.key)

    @property
    def bzimage(self) -> Path:
        return self.folder / "bzImage"

    @property
    def vmlinux(self) -> Path:
        """With DWARF."""
        return self.folder / "vmlinux"

    @property
    def boot_image(self) -> Path:
        """vmlinux without symbols, small, with the PVH entry note."""
        return self.folder / "vmlinux.boot"

    @property
    def system_map(self) -> Path:
        return self.folder / "System.map"

    @property
    def config(self) -> Path:
        return self.folder / "config"

    @property
    def module_symvers(self) -> Path:
        return self.folder / "Module.symvers"

    @property
    def modules(self) -> Path:
        """Root of lib/modules; empty if the configuration has no modules."""
        return self.folder / "modules"

    @property
    def log(self) -> Path:
        return self.folder / "build.log"

    @property
    def metadata(self) -> Path:
        return self.folder / "metadata.json"


def build_host(key: str) -> str:
    """The host name a build carries: its key, so that a running kernel can be told to be this one."""
    return f"harness-{key[:12]}"
