# SPDX-License-Identifier: GPL-2.0-only
"""Systems for guests, from Debian's packages: one with IGT, one with Python; and Debian's own kernel.

Debian testing has IGT's runner and its tests in two packages (igt-gpu-tools, igt-gpu-tools-tests). They are
unpacked below the cache and installed nowhere.
"""

from __future__ import annotations

import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.cache import Cache, digest
from harness.deadline import Deadline
from harness.errors import InfraError
from harness.kernel.apt import PrivateApt, Source, mirror, read_sources
from harness.process import run

TESTS = "usr/libexec/igt-gpu-tools"
#: What is kept of IGT, with the libraries that it needs, and a shell.
PROGRAMS = (
    *(f"usr/bin/{name}" for name in ("igt_runner", "igt_results", "dash")),
    *(f"{TESTS}/{name}" for name in ("xe_exec_system_allocator", "meta_test")),
)
DUMPERS = ("usr/bin/makedumpfile",)
LIMIT_S = 300.0


@dataclass(frozen=True)
class System:
    """Packages of a Debian suite, and what is kept of them. suite: empty: that of this machine."""

    name: str
    suite: str
    packages: tuple[str, ...]
    keep: Callable[[Path, Path, Deadline], None]

    def at(self, cache: Cache, *, fresh: bool = False) -> Path:
        """The folder with it; one that is there already does unless it shall be `fresh`.

        InfraError if this is no Debian, or the mirror cannot be reached and nothing is there yet.
        """
        deadline = Deadline.after(LIMIT_S)
        home = cache.folder("userlands")
        with cache.lock(f"userland-{self.name}", deadline):
            there = sorted(home.glob(f"{self.name}-*"), key=lambda path: path.stat().st_mtime)
            if there and not fresh:
                return there[-1]
            archives = self._archives(cache, deadline)
            target = home / f"{self.name}-{digest([path.name for path in archives])[:16]}"
            if not target.is_dir():
                with tempfile.TemporaryDirectory(dir=home) as scratch, cache.making(target) as draft:
                    for archive in archives:
                        run(["dpkg-deb", "-x", str(archive), scratch], deadline=deadline)
                    self.keep(Path(scratch), draft, deadline)
            return target

    def _archives(self, cache: Cache, deadline: Deadline) -> list[Path]:
        codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
        source = mirror(read_sources(Path("/etc/apt")), codename)
        if source is None:
            raise InfraError("the system's apt has no Debian source", hint="run this on Debian")
        suite = Source(source.uris, (self.suite or codename,), ("main",), source.options)
        apt = PrivateApt.create(cache.folder("apt", self.name), [suite], deadline)
        complaint = apt.update(deadline)
        if complaint:
            raise InfraError(f"Debian {self.suite or codename} cannot be had: {complaint}")
        return apt.download_all(self.packages, deadline)


def _keep_programs(programs: Sequence[str], whole: Path, target: Path, deadline: Deadline) -> None:
    """Copy programs, their libraries and what loads them; folders as the whole system has them."""
    libraries = next((whole / "usr" / "lib").glob("*-linux-gnu"))
    wanted, found = [*programs], set[str]()
    while wanted:
        path = wanted.pop()
        found.add(path)
        dynamic = run(["readelf", "-d", str(whole / path)], deadline=deadline).output
        for name in re.findall(r"\(NEEDED\).*\[(.+)\]", dynamic):
            library = f"{libraries.relative_to(whole)}/{name}"
            if library not in found:
                wanted.append(library)
    found.add("usr/lib64/ld-linux-x86-64.so.2")
    for path in sorted(found):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(whole / path, target / path)
    for name in ("bin", "lib", "lib64"):
        (target / name).symlink_to(f"usr/{name}")


def _keep_igt(whole: Path, target: Path, deadline: Deadline) -> None:
    """IGT, with a shell and a list of the tests that are there."""
    _keep_programs(PROGRAMS, whole, target, deadline)
    (target / "usr" / "bin" / "sh").symlink_to("dash")
    names = [Path(path).name for path in PROGRAMS if path.startswith(TESTS)]
    (target / TESTS / "test-list.txt").write_text(f"TESTLIST\n{' '.join(names)}\nEND TESTLIST\n")


def _keep_all(whole: Path, target: Path, deadline: Deadline) -> None:
    """All but what is to be read by people."""
    for entry in whole.iterdir():
        entry.rename(target / entry.name)
    for name in ("doc", "man", "locale", "info"):
        run(["rm", "-rf", str(target / "usr" / "share" / name)], deadline=deadline)


def _keep_kernel(whole: Path, target: Path, deadline: Deadline) -> None:
    """The image and its modules, with their configuration and symbols."""
    modules = next(
        path for path in (whole / "usr" / "lib" / "modules", whole / "lib" / "modules") if path.is_dir()
    )
    (whole / "boot").rename(target / "boot")
    modules.rename(target / "modules")


IGT = System("igt", "testing", ("igt-gpu-tools", "igt-gpu-tools-tests", "dash"), _keep_igt)
PYTHON = System("python", "testing", ("python3", "base-files"), _keep_all)
MAKEDUMPFILE = System("makedumpfile", "testing", ("makedumpfile",), partial(_keep_programs, DUMPERS))
#: Whatever this machine's release installs.
KERNEL = System("kernel", "", ("linux-image-amd64",), _keep_kernel)
