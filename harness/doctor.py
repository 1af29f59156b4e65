# SPDX-License-Identifier: GPL-2.0-only
"""What this machine lacks for the harness, and how to mend each."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.cache import Cache
from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.process import run

#: Two trees, their workspaces with objects, and the finished builds: 6 GiB measured, and some room.
DISK_NEEDED_GIB = 8
#: A guest, a kernel link with DWARF, and the rest (GiB).
MEMORY_NEEDED_GIB = 4

#: Program -> (Debian package, is there no doing without it).
PROGRAMS = {
    "make": ("make", True),
    "gcc": ("gcc", True),
    "ld": ("binutils", True),
    "strip": ("binutils", True),
    "flex": ("flex", True),
    "bison": ("bison", True),
    "bc": ("bc", True),
    "xz": ("xz-utils", True),
    "tar": ("tar", True),
    "git": ("git", True),
    "qemu-system-x86_64": ("qemu-system-x86", True),
    "gzip": ("gzip", True),
    "bzip2": ("bzip2", False),
    "zstd": ("zstd", False),
    "flock": ("util-linux", True),
    "perl": ("perl", True),
    "setpriv": ("util-linux", False),
    "busybox": ("busybox-static", False),
    "gdb": ("gdb", False),
    "spatch": ("coccinelle", False),
}

#: What the kernel's build tools or the guest's programs are compiled with: a probe in C, the package.
HEADERS = {
    "libelf headers": ("#include <gelf.h>\nint main(void) { return 0; }\n", (), "libelf-dev"),
    "OpenSSL headers": ("#include <openssl/evp.h>\nint main(void) { return 0; }\n", (), "libssl-dev"),
    "static C library": ("int main(void) { return 0; }\n", ("-static",), "libc6-dev"),
}


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `ok` None: cannot be said yet."""

    what: str
    ok: bool | None
    detail: str
    mend: str = ""
    needed: bool = True


def findings(cache: Cache, run_folder: Path, *others: Callable[[], Finding]) -> list[Finding]:
    """Look at everything; never raises for what it finds."""
    return [
        _python(),
        *(_program(name, package, needed) for name, (package, needed) in PROGRAMS.items()),
        *(_header(what, *probe) for what, probe in HEADERS.items()),
        _disk("cache folder", cache.root, DISK_NEEDED_GIB),
        _disk("run folder", run_folder, 1),
        _memory(),
        *(look() for look in others),
    ]


def as_json(found: list[Finding]) -> list[dict[str, object]]:
    """The findings as JSON values."""
    return [asdict(finding) for finding in found]


def healthy(found: list[Finding]) -> bool:
    """True if nothing that is needed is missing."""
    return all(finding.ok is not False or not finding.needed for finding in found)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python", sys.version_info >= (3, 11), version, "install Python 3.11 or newer")


def _program(name: str, package: str, needed: bool) -> Finding:
    path = shutil.which(name)
    missing = "not found"
    if name == "setpriv":
        missing += "; without it a guest outlives a harness that is killed"
    return Finding(name, path is not None, path or missing, f"apt-get install {package}", needed)


def _header(what: str, source: str, flags: tuple[str, ...], package: str) -> Finding:
    mend = f"apt-get install {package}"
    with tempfile.TemporaryDirectory(prefix="hmm-doctor-") as folder:
        probe = Path(folder) / "probe.c"
        probe.write_text(source)
        argv = ["gcc", *flags, "-o", str(Path(folder) / "probe"), str(probe)]
        try:
            ok = run(argv, deadline=Deadline.after(30), check=False).ok
        except HarnessError as error:
            return Finding(what, False, error.message, mend)
    return Finding(what, ok, "compiles" if ok else "a probe does not compile", mend)


def _disk(what: str, folder: Path, needed_gib: int) -> Finding:
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 2**30
    writable = os.access(place, os.W_OK)
    detail = f"{folder}: {free:.0f} GiB free, {needed_gib} needed" + ("" if writable else ", not writable")
    return Finding(what, writable and free >= needed_gib, detail, "free some space, or choose another folder")


def _memory() -> Finding:
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) / 2**20
    detail = f"{available:.1f} GiB available, {MEMORY_NEEDED_GIB} needed"
    return Finding("memory", available >= MEMORY_NEEDED_GIB, detail, "close other programs")
