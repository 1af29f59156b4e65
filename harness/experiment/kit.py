# SPDX-License-Identifier: GPL-2.0-only
"""The files that a trial needs of its kernel, by content: so that another machine gets each of them once."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import zstandard

from harness.cache import Cache, digest, sha256_file
from harness.disk import disk_errors
from harness.errors import InfraError
from harness.experiment.kernels import BootableKernel

#: An entry of the cache is two folders deep (builds/KEY, modules/KEY, programs/KEY), a file of it three.
_DEPTH = 3
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Part:
    """A file of the kit: its name below the cache's root, and the SHA-256 of its content."""

    name: str
    sha256: str


Kit = tuple[Part, ...]


def kit_of(kernel: BootableKernel) -> Kit:
    """What has to be there to boot a kernel, watch it, and read its memory."""
    build = kernel.build
    paths = [build.boot_image, build.vmlinux, build.system_map, build.config, *_paths(kernel.programs)]
    paths += _paths(kernel.hmm_tests) if kernel.hmm_tests else []
    return tuple(Part(str(_name(path)), _sum(path, path.stat().st_mtime_ns)) for path in paths)


def part_path(kernel: BootableKernel, part: Part) -> Path:
    """Where the machine that built the kernel has a part of its kit."""
    return kernel.build.folder.parents[1] / part.name


def at_place(kernel: BootableKernel, place: Path) -> BootableKernel:
    """The same kernel with its files below another root."""
    build = replace(kernel.build, folder=place / _name(kernel.build.folder, depth=2))
    tests = _moved(kernel.hmm_tests, place) if kernel.hmm_tests else None
    return BootableKernel(build, _moved(kernel.programs, place), tests)


@dataclass(frozen=True)
class Shelf:
    """Where a machine keeps the parts it was sent: each once, with links where a kernel wants them."""

    cache: Cache

    def missing(self, kit: Kit) -> tuple[Part, ...]:
        """What has not been sent yet."""
        return tuple(part for part in kit if not self.cache.has(self._blob(part)))

    def put(self, part: Part, packed: bytes) -> None:
        """Keep a part, whose content is `packed` by `pack`. InfraError if it is not what its name says."""
        blob = self._blob(part)
        draft = blob.with_name(f".{blob.name}.{os.getpid()}")
        try:
            with disk_errors(draft), draft.open("wb") as sink:
                for chunk in zstandard.ZstdDecompressor().read_to_iter(packed):
                    sink.write(chunk)
            if sha256_file(draft) != part.sha256:
                raise InfraError(f"{part.name} did not arrive as it was sent")
            draft.rename(blob)
        finally:
            draft.unlink(missing_ok=True)

    def lay_out(self, kit: Kit) -> Path:
        """A root that has all files of a kit by their names; the parts must be there."""
        place = self.cache.folder("kits") / digest(f"{part.name} {part.sha256}" for part in kit)[:32]
        if not self.cache.has(place):
            with self.cache.making(place) as draft:
                for part in kit:
                    link = draft / part.name
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.hardlink_to(self._blob(part))
        return place

    def _blob(self, part: Part) -> Path:
        return self.cache.folder("blobs") / part.sha256


def pack(path: Path) -> bytes:
    """A file's content, compressed."""
    return zstandard.ZstdCompressor(level=3, threads=-1).compress(path.read_bytes())


@cache
def _sum(path: Path, changed_ns: int) -> str:
    return sha256_file(path)


def _name(path: Path, depth: int = _DEPTH) -> Path:
    return Path(*path.parts[-depth:])


def _paths(files: Any) -> list[Path]:
    """The files that a dataclass of paths names."""
    values = (getattr(files, field.name) for field in fields(files))
    return [value for value in values if value is not None]


def _moved(files: _Value, place: Path) -> _Value:
    """A dataclass of paths with all of them below another root."""
    assert is_dataclass(files) and not isinstance(files, type)
    paths = {field.name: getattr(files, field.name) for field in fields(files)}
    return replace(files, **{name: path and place / _name(path) for name, path in paths.items()})
