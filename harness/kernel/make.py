# SPDX-License-Identifier: GPL-2.0-only
"""make in a kernel tree: its command line, its environment, and what its output says."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import HarnessError, InfraError
from harness.process import run

#: A line of make's output that says what is worked on: "  CC      mm/memory.o".
_WORK = re.compile(r"^  ([A-Z][A-Z0-9_]*)\s+(?:\[M\]\s+)?(\S+)")
_COMPILER_ERROR = re.compile(r"^[^\s:]+:\d+(?::\d+)?: (?:fatal )?error: ")
#: What else ends a build: the linker, modpost, objtool, kconfig, make itself.
_OTHER_ERROR = re.compile(
    r"undefined reference to|^ld: |: multiple definition of|^ERROR: |\*\*\* No rule to make|\berror: |Error: "
)
_CONTEXT = re.compile(
    r"^(?:In file included from |\s+from |[^\s:]+: In (?:function|member)|[^\s:]+: At top level)"
)
_MISSING_TOOL = re.compile(r"(\S+): (?:command )?not found")
_MISSING_HEADER = re.compile(r"(gelf\.h|libelf\.h|openssl/\w+\.h): No such file")


class BuildError(HarnessError):
    """The source does not build: the message has the compiler's first error. Exit code 2."""

    exit_code = 2


@dataclass(frozen=True)
class Toolchain:
    """What the kernel is compiled with. arch: kbuild's ARCH. cross: prefix of the tools' names."""

    compiler: str
    arch: str = "x86_64"
    srcarch: str = "x86"
    cross: str = ""

    def program(self, name: str) -> str:
        """The name of a tool of the set, e.g. "gcc" or "strip", that works for the kernel's architecture."""
        return f"{self.cross}{name}"


@cache
def toolchain() -> Toolchain:
    """The compiler for x86_64 on this host. InfraError if there is none."""
    cross = "" if platform.machine() == "x86_64" else "x86_64-linux-gnu-"
    argv = [f"{cross}gcc", "--version"]
    done = run(argv, deadline=Deadline.after(30), env={"LC_ALL": "C"}, merge_stderr=False)
    return Toolchain(done.output.splitlines()[0].strip(), cross=cross)


def default_jobs() -> int:
    """One job more than there are CPUs for this process."""
    return len(os.sched_getaffinity(0)) + 1


def make_argv(src: Path, obj: Path, targets: Sequence[str], tools: Toolchain, jobs: int) -> list[str]:
    """The command line that builds targets of the tree `src` in the object folder `obj`.

    `jobs` 0 is `default_jobs()`.
    """
    return ["make", "-C", str(src), f"O={obj}", *_common(tools, jobs), *targets]


def module_argv(obj: Path, module: Path, words: Sequence[str], tools: Toolchain, jobs: int) -> list[str]:
    """The command line that builds the external module in the folder `module` against a kernel's objects.

    `words` are targets and further settings, such as W=1. It goes with `make_env(build.build_host)`, so that
    the module is compiled as its kernel was. `jobs` 0 is `default_jobs()`.
    """
    return ["make", "-C", str(obj), f"M={module}", *_common(tools, jobs), *words]


def _common(tools: Toolchain, jobs: int) -> list[str]:
    cross = [f"CROSS_COMPILE={tools.cross}"] if tools.cross else []
    return [f"ARCH={tools.arch}", *cross, f"-j{jobs or default_jobs()}", "--output-sync=target"]


def make_env(host: str = "harness") -> dict[str, str]:
    """The environment that makes two builds of one content alike, whoever builds them and when.

    `host` is what the kernel says it was built on; /proc/version of a running kernel shows it.
    """
    return {
        "KBUILD_BUILD_TIMESTAMP": "1970-01-01 00:00:00 UTC",
        "KBUILD_BUILD_USER": "hmm",
        "KBUILD_BUILD_HOST": host,
        "KBUILD_BUILD_VERSION": "1",
        "LC_ALL": "C",
        # What a user's shell may have set for builds of other kernels.
        "LOCALVERSION": "",
        "MAKEFLAGS": "",
        "KCFLAGS": "",
        "KAFLAGS": "",
        "KCPPFLAGS": "",
        "LLVM": "",
        "CROSS_COMPILE": "",
    }


def run_make(
    argv: Sequence[str],
    env: Mapping[str, str],
    lock: Path,
    log: Path,
    deadline: Deadline,
    on_file: Callable[[str], None] | None = None,
) -> None:
    """Run make; `on_file` gets "CC mm/memory.o" for each file. Everything is appended to `log`.

    make and all it starts hold `lock`: what outlives a killed harness can be waited for.
    BuildError with the first error if the source does not build, InfraError for a full disk or missing tool.
    """

    def line(text: str) -> None:
        match = _WORK.match(text)
        if match and on_file:
            on_file(f"{match[1]} {match[2]}")

    # flock becomes make, which thereby is what ends with the harness; the lock stays with the open file.
    held = ["flock", "--no-fork", str(lock), *argv]
    done = run(held, deadline=deadline, env=env, log=log, on_line=line, check=False)
    if done.ok:
        return
    if "No space left on device" in done.output:
        raise InfraError("no space left on the disk while building the kernel", hint=f"free some near {log}")
    if "Killed signal terminated program" in done.output:
        raise InfraError("the compiler was killed: no memory was left?", hint=f"the whole log is {log}")
    error = first_error(done.output)
    missing = _MISSING_TOOL.search(error) or _MISSING_HEADER.search(error)
    if missing:
        raise InfraError(
            f"the kernel build needs {missing[1]}, which is not installed",
            hint="`hmm-harness doctor` names the package",
        )
    raise BuildError(f"the kernel does not build:\n{error}", hint=f"the whole log is {log}")


def first_error(output: str) -> str:
    """The lines of the first error in make's output: the compiler's, else another tool's, else make's."""
    lines = output.splitlines()
    for pattern in (_COMPILER_ERROR, _OTHER_ERROR):
        for index, text in enumerate(lines):
            if pattern.search(text):
                return "\n".join(_with_context(lines, index))
    for index, text in enumerate(lines):
        if re.match(r"make(\[\d+\])?: \*\*\*", text):
            return "\n".join(lines[max(0, index - 6) : index + 1])
    return "\n".join(lines[-12:])


def _with_context(lines: Sequence[str], index: int) -> list[str]:
    """An error with the "In function" lines before it, and the source and caret lines after it."""
    start = index
    while start > 0 and index - start < 6 and _CONTEXT.match(lines[start - 1]):
        start -= 1
    end = index + 1
    while (
        end < len(lines)
        and end - index < 12
        and re.match(r"\s+\d* *\||\s", lines[end])
        and not _WORK.match(lines[end])
    ):
        end += 1
    return list(lines[start:end])
