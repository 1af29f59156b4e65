# SPDX-License-Identifier: GPL-2.0-only
"""The tree's own tests of HMM, built as the tree has them: test_hmm.ko and selftests/mm/hmm-tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.cache import Cache, digest
from harness.deadline import Deadline
from harness.errors import UserError
from harness.kernel.build import BuildRequest, KernelBuild, workspace_at
from harness.kernel.make import BuildError, first_error, make_argv, make_env, toolchain
from harness.kernel.workspace import Workspace
from harness.kmod import compile_static
from harness.process import run
from harness.progress import Progress

PROGRAM = "hmm-tests"
MODULE = "test_hmm.ko"
_SELFTESTS = Path("tools", "testing", "selftests")
#: As tools/testing/selftests/mm/Makefile has them, and nothing of what the host happens to have fortified.
_FLAGS = ("-static", "-O2", "-s", "-pthread", "-U_FORTIFY_SOURCE", "-D_GNU_SOURCE=")
#: What a failed check says names a place in the tree, not on this machine.
_PLACE = "-fmacro-prefix-map"
#: What the Makefile links every test with; which of them there are depends on the version.
_HELPERS = ("vm_util.c", "hugepage_settings.c", "thp_settings.c")


@dataclass(frozen=True)
class HmmTests:
    """What the tree's own suite needs in the guest."""

    program: Path
    #: Without debug info, as the guest loads it.
    module: Path
    #: The same with debug info.
    module_debug: Path


def build_hmm_tests(
    request: BuildRequest, build: KernelBuild, cache: Cache, progress: Progress, deadline: Deadline
) -> HmmTests:
    """Build the suite from the tree of the kernel, patches and all, or take it from the cache.

    UserError if the kernel has no test_hmm.ko or the tree no hmm-tests.c; BuildError with the first compiler
    error.
    """
    module = next(build.modules.glob(f"**/{MODULE}"), None)
    if module is None:
        raise UserError(f"{build.release} was built without {MODULE}", hint="it needs CONFIG_TEST_HMM=m")
    # The key of a kernel covers its tree, every patched file of it, and the compiler.
    target = cache.folder("programs") / digest([PROGRAM, build.key, *_FLAGS, _PLACE])[:20]
    if not cache.has(target):
        with (
            progress.step(f"{PROGRAM} of {build.release}"),
            workspace_at(request, cache, progress, deadline) as workspace,
            cache.making(target) as draft,
        ):
            _compile(workspace, draft, build, request.jobs, deadline)
            strip = toolchain().program("strip")
            run([strip, "--strip-debug", "-o", str(draft / MODULE), str(module)], deadline=deadline)
    return HmmTests(target / PROGRAM, target / MODULE, module)


def _compile(workspace: Workspace, draft: Path, build: KernelBuild, jobs: int, deadline: Deadline) -> None:
    tests = workspace.src / _SELFTESTS / "mm"
    source = tests / f"{PROGRAM}.c"
    if not source.is_file():
        raise UserError(f"{build.tree} has no {_SELFTESTS}/mm/{PROGRAM}.c")
    tools, log = toolchain(), draft / "build.log"
    argv = make_argv(workspace.src, workspace.obj, ["headers"], tools, jobs)
    made = run(argv, env=make_env(build.build_host), deadline=deadline, log=log, check=False)
    if not made.ok:
        raise BuildError(f"the headers of {build.tree} cannot be made:\n{first_error(made.output)}")
    include = [
        *("-I", str(workspace.src), "-I", str(workspace.src / _SELFTESTS)),
        *("-isystem", str(workspace.obj / "usr" / "include")),
        *("-isystem", str(workspace.src / "tools" / "include" / "uapi")),
    ]
    sources = [source, *(path for name in _HELPERS if (path := tests / name).is_file())]
    flags = [*_FLAGS, f"{_PLACE}={workspace.src}/=", *include]
    compile_static(draft / PROGRAM, sources, flags, log, deadline)
