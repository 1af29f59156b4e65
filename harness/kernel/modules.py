# SPDX-License-Identifier: GPL-2.0-only
"""Modules of a build as a guest without modprobe loads them: each after those that it depends on."""

from __future__ import annotations

import re
from pathlib import Path

from harness.cache import Cache, digest
from harness.deadline import Deadline
from harness.errors import UserError
from harness.kernel.build import KernelBuild
from harness.kernel.make import toolchain
from harness.process import run
from harness.progress import Progress

#: As modpost writes it into .modinfo (scripts/mod/modpost.c, add_depends()).
_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")


def load_order(root: Path, name: str) -> list[Path]:
    """A module below `root` behind all that it depends on. UserError if it is not there."""
    files = {path.stem.replace("-", "_"): path for path in root.rglob("*.ko")}
    order: list[Path] = []

    def add(module: str) -> None:
        path = files.get(module.replace("-", "_"))
        if path is None:
            raise UserError(
                f"the kernel has no module {module}.ko", hint="its fragments or config leave it out"
            )
        if path in order:
            return
        found = _DEPENDS.search(path.read_bytes())
        for other in filter(None, (found[1] if found else b"").decode().split(",")):
            add(other)
        order.append(path)

    add(name)
    return order


def driver_modules(
    build: KernelBuild, name: str, cache: Cache, progress: Progress, deadline: Deadline
) -> tuple[Path, ...]:
    """A driver's modules without debug info, in the order in which they are loaded; made once a build."""
    order = load_order(build.modules, name)
    target = cache.folder("modules") / digest(["driver", name, build.key])[:20]
    if not cache.has(target):
        strip = toolchain().program("strip")
        with progress.step(f"{name}.ko of {build.release}"), cache.making(target) as draft:
            for path in order:
                run([strip, "--strip-debug", "-o", str(draft / path.name), str(path)], deadline=deadline)
    return tuple(target / path.name for path in order)
