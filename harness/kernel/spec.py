# SPDX-License-Identifier: GPL-2.0-only
"""What kernel source is asked for, and what is had: the values at the door of `tree`."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from harness.cache import Cache, digest
from harness.disk import write_atomically
from harness.errors import UserError


@dataclass(frozen=True)
class DebianSpec:
    """A Debian source package. No package: the newest `linux-source-N.M` of `suite` or the default suite."""

    package: str | None = None
    suite: str | None = None

    def __str__(self) -> str:
        return f"Debian {self.package or 'linux-source'}" + (f" of {self.suite}" if self.suite else "")


@dataclass(frozen=True)
class TarballSpec:
    """A release tarball: http, https or file URL, and the SHA-256 of the file in hex."""

    url: str
    sha256: str

    def __str__(self) -> str:
        return f"tarball {self.url}"


@dataclass(frozen=True)
class GitSpec:
    """A git repository (URL, or path of a local one) and any revision git understands."""

    url_or_path: str
    revision: str

    def __str__(self) -> str:
        return f"git {self.url_or_path} {self.revision}"


@dataclass(frozen=True)
class FolderSpec:
    """A folder with kernel source, only ever read."""

    path: Path

    def __str__(self) -> str:
        return f"folder {self.path}"


TreeSpec = DebianSpec | TarballSpec | GitSpec | FolderSpec


@dataclass(frozen=True)
class KernelTree:
    """Kernel source as it came, before any patch.

    path: the folder. version: as `make kernelversion` prints it, e.g. "7.3.4" or "7.4.0-rc2".
    ident: names the content; part of every key. description: what a report prints.
    origin: what trees that follow each other share (a repository, a folder); they share a workspace, so
    that the step from one to the next is an incremental build. immutable: nobody changes files below `path`.
    changes_since: the paths that may differ from the tree of another identity; None where that is not known.
    commit: of a tree from git, the full id; empty: there is none.
    """

    path: Path
    version: str
    ident: str
    description: str
    origin: str
    immutable: bool = True
    changes_since: Callable[[str], frozenset[str] | None] | None = field(default=None, compare=False)
    commit: str = field(default="", compare=False)


def kernel_version(path: Path, called: str = "") -> str:
    """The version in a tree's top Makefile, e.g. "7.3.4". UserError if there is no kernel source.

    called: what the user calls the tree, if not by its path.
    """
    makefile = path / "Makefile"
    try:
        text = makefile.read_text(encoding="utf-8", errors="replace")[:4096]
    except OSError:
        text = ""
    found = dict(
        re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION)[ \t]*=[ \t]*(\S*)[ \t]*$", text, re.M)
    )
    if not found.get("VERSION") or not (path / "Kconfig").is_file():
        raise UserError(
            f"{called or path} is not a kernel source tree",
            hint="it needs a top Makefile with VERSION, and a Kconfig",
        )
    numbers = ".".join(found.get(key) or "0" for key in ("VERSION", "PATCHLEVEL", "SUBLEVEL"))
    return f"{numbers}{found.get('EXTRAVERSION', '')}"


def version_tuple(version: str) -> tuple[int, int, int]:
    """ "7.3.4" -> (7, 3, 4). What follows the numbers ("-rc2") counts as the release it leads to."""
    match = re.match(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?", version)
    if match is None:
        raise UserError(f"{version!r} is not a kernel version", hint="write it like 7.3 or 6.12.117")
    return int(match[1]), int(match[2] or 0), int(match[3] or 0)


def _answer_file(cache: Cache, spec: TreeSpec) -> Path:
    return cache.folder("resolved") / f"{digest([repr(spec)])[:24]}.json"


def remember(cache: Cache, spec: TreeSpec, tree: KernelTree) -> None:
    """Keep what a request came to, for the next time and for when the network is away."""
    entry = {
        "request": str(spec),
        "ident": tree.ident,
        "version": tree.version,
        "description": tree.description,
        "origin": tree.origin,
        "time": time.time(),
    }
    write_atomically(_answer_file(cache, spec), json.dumps(entry, indent=1).encode())


def recall(cache: Cache, spec: TreeSpec) -> tuple[KernelTree, float] | None:
    """The tree a request came to earlier and its age in seconds, if the tree is still in the cache."""
    try:
        entry = json.loads(_answer_file(cache, spec).read_text(encoding="utf-8"))
        path = cache.root / "trees" / entry["ident"]
        tree = KernelTree(path, entry["version"], entry["ident"], entry["description"], entry["origin"])
        age = time.time() - float(entry["time"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (tree, max(age, 0.0)) if cache.has(path) else None
