# SPDX-License-Identifier: GPL-2.0-only
"""Addresses to functions, and how often each CPU was seen in which."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.target.protocol import Sample, VcpuSample
from harness.watch.histogram import histogram, histogram_text
from harness.watch.symbols import SymbolTable
from tests.unit.watching import RIPS, SYMBOLS, Host

#: Lines of a real System.map, among them labels, aliases, clones, data and absolute symbols.
MAP = """\
0000000001734480 A phys_startup_64
ffffffff81000000 T __pi__text
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000000 T entry_SYSCALL_64
ffffffff81000100 T __pfx_do_one_initcall
ffffffff81000110 T do_one_initcall
ffffffff812928f0 t hmm_vma_fault.isra.0
ffffffff81292ed0 T __softirqentry_text_start
ffffffff81292ee0 W weak_function
ffffffff812d0c50 T _etext
ffffffff81400000 D __start_rodata
ffffffff81727000 T _sinittext
ffffffff81727000 t set_reset_devices
ffffffff81763077 T _einittext
ffffffff8186e000 B _end
"""


@pytest.fixture
def table(tmp_path: Path) -> SymbolTable:
    path = tmp_path / "System.map"
    path.write_text(MAP)
    return SymbolTable.load(path)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (0xFFFFFFFF81000000, "entry_SYSCALL_64"),
        (0xFFFFFFFF810000FF, "entry_SYSCALL_64"),
        (0xFFFFFFFF81000111, "do_one_initcall"),
        (0xFFFFFFFF812928F7, "hmm_vma_fault"),
        (0xFFFFFFFF81292EE1, "weak_function"),
        (0xFFFFFFFF81727008, "set_reset_devices"),
        (0xFFFFFFFF812D0C60, "0xffffffff812d0c60"),
        (0xFFFFFFFF81400000, "0xffffffff81400000"),
        (0xFFFFFFFF8186E000, "0xffffffff8186e000"),
        (0x401000, "0x401000"),
        (0, "0x0"),
    ],
)
def test_an_address_is_in_the_function_that_begins_before_it(
    table: SymbolTable, address: int, name: str
) -> None:
    assert table.name(address) == name


def test_a_modules_text_is_named_by_the_module(table: SymbolTable) -> None:
    assert table.name(0xFFFFFFFFA0000010) == "[module]"
    known = table.with_module("hmm_harness", 0xFFFFFFFFA0000000).with_module("other", 0xFFFFFFFFA0100000)
    assert known.name(0xFFFFFFFFA0000010) == "[hmm_harness]"
    assert known.name(0xFFFFFFFFA0100010) == "[other]"
    assert table.with_module("hidden", 0) == table


def test_what_is_no_system_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        SymbolTable.load(tmp_path / "missing")
    (tmp_path / "junk").write_text("no map\n")
    with pytest.raises(UserError, match="is no System"):
        SymbolTable.load(tmp_path / "junk")


def test_a_histogram_counts_functions_for_each_cpu() -> None:
    host = Host()
    samples = [host.sample("halted", "do_swap_page") for _ in range(3)]
    samples += [
        host.sample("user", "__handle_mm_fault"),
        host.sample("halted", "do_swap_page", running=False),
    ]
    first, second = histogram(samples, SYMBOLS)
    assert json.loads(json.dumps(first.as_json())) == {
        "cpu": 0,
        "samples": 4,
        "functions": {"(halted)": 3, "(user mode)": 1},
    }
    assert second.functions == (("do_swap_page", 3), ("__handle_mm_fault", 1))
    assert str(second) == "CPU 1 in do_swap_page (3 of 4)"
    assert histogram_text([second]) == (
        "CPU 1, 4 samples\n       3   75%  do_swap_page\n       1   25%  __handle_mm_fault\n"
    )


def test_without_symbols_a_histogram_tells_kernel_from_user() -> None:
    cpus = (
        VcpuSample(0, RIPS["do_swap_page"], 0, False, 0.0),
        VcpuSample(1, 0x401000, 3, False, 0.0),
        VcpuSample(2, 0, 0, True, 0.0),
    )
    assert [str(one) for one in histogram([Sample(1.0, True, cpus)], None)] == [
        "CPU 0 in the kernel (1 of 1)",
        "CPU 1 in user mode (1 of 1)",
        "CPU 2 halted (1 of 1)",
    ]
