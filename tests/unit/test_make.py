# SPDX-License-Identifier: GPL-2.0-only
"""The make command line, its environment, and what make says."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from harness.kernel.make import (
    Toolchain,
    default_jobs,
    first_error,
    make_argv,
    make_env,
    module_argv,
    toolchain,
)


def test_make_command_line() -> None:
    tools = Toolchain("gcc 12")
    assert make_argv(Path("/s"), Path("/o"), ["bzImage", "modules"], tools, 3) == [
        "make", "-C", "/s", "O=/o", "ARCH=x86_64", "-j3", "--output-sync=target", "bzImage", "modules",
    ]  # fmt: skip
    cross = Toolchain("gcc 12", cross="x86_64-linux-gnu-")
    assert "CROSS_COMPILE=x86_64-linux-gnu-" in make_argv(Path("/s"), Path("/o"), ["bzImage"], cross, 3)


def test_module_command_line_goes_with_its_kernel() -> None:
    tools = Toolchain("gcc 12", cross="x86_64-linux-gnu-")
    assert module_argv(Path("/o"), Path("/m"), ["W=1", "modules"], tools, 3) == [
        "make", "-C", "/o", "M=/m", "ARCH=x86_64", "CROSS_COMPILE=x86_64-linux-gnu-", "-j3",
        "--output-sync=target", "W=1", "modules",
    ]  # fmt: skip
    assert (tools.program("strip"), Toolchain("gcc 12").program("gcc")) == ("x86_64-linux-gnu-strip", "gcc")


def test_no_jobs_are_the_default() -> None:
    tools = Toolchain("gcc 12")
    assert f"-j{default_jobs()}" in make_argv(Path("/s"), Path("/o"), ["bzImage"], tools, 0)
    assert f"-j{default_jobs()}" in module_argv(Path("/o"), Path("/m"), ["modules"], tools, 0)


def test_a_compiler_that_complains_is_still_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = toolchain()
    name = tools.program("gcc")
    real = shutil.which(name)
    (tmp_path / name).write_text(f'#!/bin/sh\necho "a warning" >&2\nexec {real} "$@"\n', encoding="utf-8")
    (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    toolchain.cache_clear()
    try:
        assert toolchain() == tools
    finally:
        toolchain.cache_clear()


def test_builds_do_not_depend_on_who_builds_when() -> None:
    assert make_env() == make_env()
    assert {"KBUILD_BUILD_TIMESTAMP", "KBUILD_BUILD_USER", "KBUILD_BUILD_HOST"} <= set(make_env())
    of_the_shell = ("MAKEFLAGS", "LLVM", "KCFLAGS", "CROSS_COMPILE", "LOCALVERSION")
    assert [make_env()[name] for name in of_the_shell] == [""] * 5


def test_first_compiler_error_with_its_lines() -> None:
    output = """\
  CC      mm/vmscan.o
In file included from ../include/linux/mm.h:7,
                 from ../mm/memory.c:41:
../mm/memory.c: In function 'do_swap_page':
../mm/memory.c:4944:33: error: implicit declaration of function 'softleaf_wait' [-Werror]
 4944 |                                 softleaf_wait(entry, vmf->ptl);
      |                                 ^~~~~~~~~~~~~
  CC      mm/slub.o
../mm/memory.c:5000:1: error: a second one
make[3]: *** [../scripts/Makefile.build:229: mm/memory.o] Error 1
make: *** [Makefile:234: __sub-make] Error 2
"""
    assert first_error(output).splitlines() == output.splitlines()[1:7]


def test_first_error_of_other_tools() -> None:
    link = (
        "  LD      vmlinux.o\nld: mm/memory.o: in function `f':\nmm/memory.c:3: undefined reference to `g'\n"
    )
    assert first_error(link).splitlines()[0] == "ld: mm/memory.o: in function `f':"
    modpost = '  MODPOST Module.symvers\nERROR: modpost: "x" [y.ko] undefined!\nmake: *** [x] Error 1\n'
    assert first_error(modpost).startswith("ERROR: modpost")
    silent = "  GEN     x\nsomething odd\nmake[1]: *** [Makefile:9: x] Error 7\n"
    assert first_error(silent).splitlines()[-1].endswith("Error 7")
