# SPDX-License-Identifier: GPL-2.0-only
"""What the kernels of a run were made of, kept in its folder: `kernels/KEY/config` and the patches.

A report shows them, and the cache may be gone by then. KEY: the first 12 digits of the build's.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from harness.assets import asset
from harness.disk import disk_errors, write_atomically
from harness.errors import UserError
from harness.kernel.build import KernelBuild
from harness.kernel.patches import Patch, read_patches
from harness.results.schema import KernelFacts

FOLDER = "kernels"
_CONFIG = "config"
_KEY = 12
_SET = re.compile(r"^(CONFIG_\w+)=(.*)$|^# (CONFIG_\w+) is not set$", re.M)


def keep_kernel(run: Path, build: KernelBuild) -> None:
    """Copy a build's configuration and patches into the folder of a run, unless they are there."""
    folder = run / FOLDER / build.key[:_KEY]
    if (folder / _CONFIG).is_file():
        return
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    wanted = {record.sha256 for record in build.patches}
    known: dict[str, Patch] = {}
    for patch in _at_hand(run) if wanted else ():
        if patch.sha256 in wanted:
            known[patch.sha256] = patch
        if len(known) == len(wanted):
            break
    for number, record in enumerate(build.patches, start=1):
        if record.sha256 in known:
            name = f"{number:02d}-{record.name.replace('/', '-')}.patch"
            write_atomically(folder / name, known[record.sha256].text.encode(errors="surrogateescape"))
    with disk_errors(folder):
        shutil.copyfile(build.config, folder / _CONFIG)


def _at_hand(run: Path) -> Iterator[Patch]:
    """The run's own patch files, and those of the catalogue."""
    yield from _patches_in(run / "patches")
    yield from _catalogue()


@cache
def _catalogue() -> tuple[Patch, ...]:
    return tuple(_patches_in(asset("patches")))


def _patches_in(place: Path) -> Iterator[Patch]:
    for path in sorted(path for path in place.rglob("*") if path.is_file() and path.suffix != ".md"):
        with contextlib.suppress(UserError):
            yield from read_patches(path)


def kept_diffs(run: Path, kernel: KernelFacts) -> dict[str, str]:
    """The diffs of a kernel's patches by their sha256, as far as they were kept."""
    diffs: dict[str, str] = {}
    for path in sorted((run / FOLDER / kernel.build[:_KEY]).glob("*.patch")):
        with contextlib.suppress(UserError):
            diffs |= {patch.sha256: patch.text for patch in read_patches(path)}
    return diffs


def kept_config(run: Path, kernel: KernelFacts) -> str | None:
    """The configuration of a kernel; None if it was not kept."""
    path = run / FOLDER / kernel.build[:_KEY] / _CONFIG
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def config_diff(one: str, other: str) -> tuple[str, ...]:
    """What differs between two configurations, as `-CONFIG_X=y` and `+CONFIG_X=m`; no order, no comments."""
    left, right = _settings(one), _settings(other)
    lines = []
    for name in sorted(left.keys() | right.keys()):
        if left.get(name) != right.get(name):
            lines += [
                f"{sign}{name}={side[name]}" for sign, side in (("-", left), ("+", right)) if name in side
            ]
    return tuple(lines)


def _settings(config: str) -> dict[str, str]:
    return {m[1] or m[3]: m[2] or "n" for m in _SET.finditer(config)}
