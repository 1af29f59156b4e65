# SPDX-License-Identifier: GPL-2.0-only
"""A system with IGT: Debian testing's igt_runner and tests, with the libraries that they need, and a shell.

Debian has the runner and the tests in two packages (igt-gpu-tools, igt-gpu-tools-tests). They are unpacked
below the cache and installed nowhere; what is kept of them is what a guest's initramfs needs.
"""

from __future__ import annotations

import platform
import re
import shutil
import tempfile
from pathlib import Path

from harness.cache import Cache, digest
from harness.deadline import Deadline
from harness.errors import InfraError
from harness.kernel.apt import PrivateApt, Source, mirror, read_sources
from harness.process import run

SUITE = "testing"
PACKAGES = ("igt-gpu-tools", "igt-gpu-tools-tests", "dash")
TESTS = "usr/libexec/igt-gpu-tools"
PROGRAMS = (
    "usr/bin/igt_runner",
    "usr/bin/igt_results",
    "usr/bin/dash",
    f"{TESTS}/xe_exec_system_allocator",
    f"{TESTS}/meta_test",
)
LIMIT_S = 300.0


def igt_userland(cache: Cache, *, fresh: bool = False) -> Path:
    """The root of a system with IGT; the one that is there already unless it shall be `fresh`.

    InfraError if this is no Debian, or the mirror cannot be reached and nothing is there yet.
    """
    deadline = Deadline.after(LIMIT_S)
    home = cache.folder("userlands")
    with cache.lock("igt", deadline):
        there = sorted(home.glob("igt-*"), key=lambda path: path.stat().st_mtime)
        if there and not fresh:
            return there[-1]
        archives = _archives(cache, deadline)
        target = home / f"igt-{digest([path.name for path in archives])[:16]}"
        if not target.is_dir():
            with tempfile.TemporaryDirectory(dir=home) as scratch, cache.making(target) as draft:
                for archive in archives:
                    run(["dpkg-deb", "-x", str(archive), scratch], deadline=deadline)
                _keep(Path(scratch), draft, deadline)
        return target


def _archives(cache: Cache, deadline: Deadline) -> list[Path]:
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    source = mirror(read_sources(Path("/etc/apt")), codename)
    if source is None:
        raise InfraError("the system's apt has no Debian source", hint="run this on Debian")
    suite = Source(source.uris, (SUITE,), ("main",), source.options)
    apt = PrivateApt.create(cache.folder("apt", "igt"), [suite], deadline)
    complaint = apt.update(deadline)
    if complaint:
        raise InfraError(f"Debian {SUITE} cannot be had: {complaint}")
    return apt.download_all(PACKAGES, deadline)


def _keep(whole: Path, target: Path, deadline: Deadline) -> None:
    """Copy the programs, their libraries and what loads them; folders as the whole system has them."""
    libraries = next((whole / "usr" / "lib").glob("*-linux-gnu"))
    wanted, found = [*PROGRAMS], set[str]()
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
    (target / "usr" / "bin" / "sh").symlink_to("dash")
    names = [Path(path).name for path in PROGRAMS if path.startswith(TESTS)]
    (target / TESTS / "test-list.txt").write_text(f"TESTLIST\n{' '.join(names)}\nEND TESTLIST\n")
