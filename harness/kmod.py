# SPDX-License-Identifier: GPL-2.0-only
"""The modules, the stressor and the guest's init, built against a `KernelBuild`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
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
#: Provokes failures, so that the harness can be seen to notice them.
SELFTEST = "hmm_selftest.ko"
STATIC_FLAGS = ("-static", "-Os", "-s", "-Wall", "-Wextra", "-Werror", "-pthread")


@dataclass(frozen=True)
class GuestPrograms:
    """What goes into the guest beside the kernel."""

    #: The module without debug info, as the guest loads it.
    module: Path
    #: The same module with debug info, for reading stacks and memory images.
    module_debug: Path
    #: The module that makes a guest fail on purpose, in the same two forms; None: not wanted.
    selftest: Path | None
    selftest_debug: Path | None
    stressor: Path
    init: Path


def _sources(folder: Path) -> list[Path]:
    wanted = {".c", ".h", ".S", ".sh"}
    named = {"Kbuild", "Makefile"}
    return sorted(p for p in folder.rglob("*") if p.is_file() and (p.suffix in wanted or p.name in named))


def _content(folder: Path, files: list[Path]) -> str:
    return digest(part for path in files for part in (str(path.relative_to(folder)), sha256_file(path)))


def build_guest_programs(
    request: BuildRequest,
    build: KernelBuild,
    cache: Cache,
    progress: Progress,
    deadline: Deadline,
    *,
    with_selftest: bool = True,
    kmod: Path | None = None,
) -> GuestPrograms:
    """Build, or take from the cache, what the guest runs. BuildError with the first compiler error.

    kmod: another folder to build the modules from.
    """
    kmod = kmod or asset("kmod")
    others = (kmod / "stressor", kmod / "selftest")
    files = [path for path in _sources(kmod) if not any(path.is_relative_to(other) for other in others)]
    bench = _Bench(request, build, cache, progress, deadline)
    module = bench.module(MODULE, kmod, files)
    selftest = (
        bench.module(SELFTEST, kmod / "selftest", _sources(kmod / "selftest")) if with_selftest else None
    )
    programs = build_static_programs(cache, progress, deadline)
    return GuestPrograms(
        module=module / MODULE,
        module_debug=module / f"{MODULE}.debug",
        selftest=selftest and selftest / SELFTEST,
        selftest_debug=selftest and selftest / f"{SELFTEST}.debug",
        stressor=programs / "hmm-stressor",
        init=programs / "init",
    )


@dataclass(frozen=True)
class _Bench:
    """Where modules are built against one kernel."""

    request: BuildRequest
    build: KernelBuild
    cache: Cache
    progress: Progress
    deadline: Deadline

    def module(self, name: str, source: Path, files: list[Path]) -> Path:
        """The folder with the module `name`, built from `files` below `source`; its debug form beside it."""
        target = self.cache.folder("modules") / digest([self.build.key, _content(source, files)])[:20]
        if self.cache.has(target):
            return target
        with (
            self.progress.step(f"module {name} for {self.build.release}"),
            workspace_at(self.request, self.cache, self.progress, self.deadline) as workspace,
            self.cache.making(target) as draft,
        ):
            folder = draft / "kmod"
            for path in files:
                copy = folder / path.relative_to(source)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, copy)
            log = draft / "build.log"
            tools = toolchain()
            argv = module_argv(workspace.obj, folder, ["W=1", "modules"], tools, self.request.jobs)
            env = make_env(self.build.build_host)
            made = run(argv, env=env, deadline=self.deadline, log=log, check=False)
            if not made.ok:
                error = first_error(made.output)
                raise BuildError(f"{name} does not build against {self.build.release}:\n{error}")
            shutil.copy2(folder / name, draft / f"{name}.debug")
            strip = tools.program("strip")
            argv = [strip, "--strip-debug", "-o", str(draft / name), str(folder / name)]
            run(argv, deadline=self.deadline)
            shutil.rmtree(folder)
        return target


def build_static_programs(cache: Cache, progress: Progress, deadline: Deadline) -> Path:
    """The folder with `hmm-stressor` and `init`, which no kernel's headers are needed for."""
    kmod = asset("kmod")
    stressor = _sources(kmod / "stressor")
    init = asset("qemu", "init.c")
    header = kmod / "hmm_harness.h"
    inputs = [*stressor, header]
    tools = toolchain()
    parts = [tools.compiler, *STATIC_FLAGS, _content(kmod, inputs), sha256_file(init)]
    target = cache.folder("programs") / digest(parts)[:20]
    if cache.has(target):
        return target
    with progress.step("stressor and init"), cache.making(target) as draft:
        objects = [path for path in stressor if path.suffix == ".c"]
        for name, sources in (("hmm-stressor", objects), ("init", [init])):
            flags = [*STATIC_FLAGS, "-I", str(kmod)]
            compile_static(draft / name, sources, flags, draft / "build.log", deadline)
    return target


def compile_static(
    program: Path, sources: Sequence[Path], flags: Sequence[str], log: Path, deadline: Deadline
) -> None:
    """Compile and link a program for the guest. BuildError: its first error; InfraError: no static libc."""
    argv = [toolchain().program("gcc"), *flags, "-o", str(program), *map(str, sources)]
    made = run(argv, deadline=deadline, log=log, check=False)
    if not made.ok:
        if "cannot find -l" in made.output:
            raise InfraError(
                "no static C library on this machine",
                hint="install libc6-dev (Debian) or glibc-static",
            )
        raise BuildError(f"{program.name} does not build:\n{first_error(made.output)}")
