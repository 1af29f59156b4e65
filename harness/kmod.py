# SPDX-License-Identifier: GPL-2.0-only
"""The module, the stressor and the guest's init, built against a `KernelBuild`."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from harness.assets import asset
from harness.cache import Cache, digest, sha256_file
from harness.deadline import Deadline
from harness.errors import InfraError
from harness.kernel.build import BuildRequest, KernelBuild, workspace_at
from harness.kernel.make import BuildError, first_error, make_env, module_argv, toolchain
from harness.process import run
from harness.progress import Progress

MODULE = "hmm_harness.ko"
STATIC_FLAGS = ("-static", "-Os", "-s", "-Wall", "-Wextra", "-Werror", "-pthread")


@dataclass(frozen=True)
class GuestPrograms:
    """What goes into the guest beside the kernel."""

    #: The module without debug info, as the guest loads it.
    module: Path
    #: The same module with debug info, for reading stacks and memory images.
    module_debug: Path
    stressor: Path
    init: Path


def _sources(folder: Path) -> list[Path]:
    wanted = {".c", ".h", ".S", ".sh"}
    named = {"Kbuild", "Makefile"}
    return sorted(p for p in folder.rglob("*") if p.is_file() and (p.suffix in wanted or p.name in named))


def _content(folder: Path, files: list[Path]) -> str:
    return digest(part for path in files for part in (str(path.relative_to(folder)), sha256_file(path)))


def build_guest_programs(
    request: BuildRequest, build: KernelBuild, cache: Cache, progress: Progress, deadline: Deadline
) -> GuestPrograms:
    """Build, or take from the cache, what the guest runs. BuildError with the first compiler error."""
    module = _module(request, build, cache, progress, deadline)
    programs = _static_programs(cache, progress, deadline)
    return GuestPrograms(
        module / MODULE, module / f"{MODULE}.debug", programs / "hmm-stressor", programs / "init"
    )


def _module(
    request: BuildRequest, build: KernelBuild, cache: Cache, progress: Progress, deadline: Deadline
) -> Path:
    source = asset("kmod")
    files = [path for path in _sources(source) if "stressor" not in path.relative_to(source).parts]
    target = cache.folder("modules") / digest([build.key, _content(source, files)])[:20]
    if target.is_dir():
        return target
    with (
        progress.step(f"module for {build.release}"),
        workspace_at(request, cache, progress, deadline) as workspace,
        cache.making(target) as draft,
    ):
        folder = draft / "kmod"
        for path in files:
            copy = folder / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
        log = draft / "build.log"
        tools = toolchain()
        argv = module_argv(workspace.obj, folder, ["W=1", "modules"], tools, request.jobs)
        made = run(argv, env=make_env(build.build_host), deadline=deadline, log=log, check=False)
        if not made.ok:
            raise BuildError(
                f"the module does not build against {build.release}:\n{first_error(made.output)}"
            )
        shutil.copy2(folder / MODULE, draft / f"{MODULE}.debug")
        run(
            [tools.program("strip"), "--strip-debug", "-o", str(draft / MODULE), str(folder / MODULE)],
            deadline=deadline,
        )
        shutil.rmtree(folder)
    return target


def _static_programs(cache: Cache, progress: Progress, deadline: Deadline) -> Path:
    kmod = asset("kmod")
    stressor = _sources(kmod / "stressor")
    init = asset("qemu", "init.c")
    header = kmod / "hmm_harness.h"
    inputs = [*stressor, header]
    tools = toolchain()
    parts = [tools.compiler, *STATIC_FLAGS, _content(kmod, inputs), sha256_file(init)]
    target = cache.folder("programs") / digest(parts)[:20]
    if target.is_dir():
        return target
    with progress.step("stressor and init"), cache.making(target) as draft:
        objects = [str(path) for path in stressor if path.suffix == ".c"]
        for name, sources in (("hmm-stressor", objects), ("init", [str(init)])):
            argv = [tools.program("gcc"), *STATIC_FLAGS, "-I", str(kmod), "-o", str(draft / name), *sources]
            made = run(argv, deadline=deadline, log=draft / "build.log", check=False)
            if not made.ok:
                if "cannot find -l" in made.output:
                    raise InfraError(
                        "no static C library on this machine",
                        hint="install libc6-dev (Debian) or glibc-static",
                    )
                raise BuildError(f"{name} does not build:\n{first_error(made.output)}")
    return target
