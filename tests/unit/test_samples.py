# SPDX-License-Identifier: GPL-2.0-only
"""What QEMU's `info registers -a` said about real guests, and the times of a real process's threads."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from harness.errors import InfraError
from harness.target.sampler import thread_times
from harness.target.samples import parse_registers, vcpu_samples

DATA = Path(__file__).parents[1] / "data" / "registers"
#: A guest in the livelock: CPU 0 halted, CPU 1 spinning in the kernel.
LIVELOCK = (DATA / "livelock.txt").read_text()
#: A guest that has just been switched on: CPU 0 in 32-bit mode, CPU 1 not started.
START = (DATA / "start.txt").read_text()


def test_registers_of_every_cpu() -> None:
    registers = parse_registers(LIVELOCK)
    assert set(registers) == {0, 1}
    general = {"RAX", "RBX", "RCX", "RDX", "RSI", "RDI", "RBP", "RSP", *(f"R{n}" for n in range(8, 16))}
    control = {"RIP", "RFL", "CR0", "CR2", "CR3", "CR4", "EFER", *(f"DR{n}" for n in (0, 1, 2, 3, 6, 7))}
    printed_with_them = {"CPL", "II", "A20", "SMM", "HLT"}
    segments = {name for s in ("CS", "DS", "ES", "FS", "GS", "SS") for name in (s, f"{s}_BASE")}
    for values in registers.values():
        assert values.keys() == general | control | printed_with_them | segments
    spinner = registers[1]
    assert spinner["RIP"] == 0xFFFFFFFF81143CF2
    assert (spinner["RFL"], spinner["CS"], spinner["CPL"], spinner["HLT"]) == (0x282, 0x10, 0, 0)
    # Per-CPU data of the kernel, one area a CPU.
    assert spinner["GS_BASE"] != registers[0]["GS_BASE"] >= 0xFFFF888000000000


def test_samples_name_rip_level_and_halt() -> None:
    idle, spinner = vcpu_samples(parse_registers(LIVELOCK), {0: (0.75, 0.0), 1: (2.0, 0.25)})
    assert (idle.cpu, idle.cpl, idle.halted, idle.run_s) == (0, 0, True, 0.75)
    assert (spinner.cpu, spinner.rip, spinner.halted) == (1, 0xFFFFFFFF81143CF2, False)
    assert (spinner.run_s, spinner.wait_s) == (2.0, 0.25)


def test_a_cpu_that_is_not_in_64_bit_mode_has_the_same_names() -> None:
    registers = parse_registers(START)
    assert registers[0].keys() >= {"RIP", "RSP", "RFL", "RAX", "CPL", "HLT"}
    starting, waiting = vcpu_samples(registers, {})
    assert (starting.rip, starting.halted) == (0xFFFF0000, False)
    assert (waiting.rip, waiting.halted, waiting.run_s) == (0xFFF0, True, 0.0)


@pytest.mark.parametrize(
    "text",
    ["", "unknown command: 'info registers'", "\r\nCPU#0\r\n PC=0000000040080000 X00=0000000000000000\r\n"],
)
def test_registers_of_another_machine_are_refused(text: str) -> None:
    with pytest.raises(InfraError, match="not those of an x86-64 CPU"):
        parse_registers(text)


def test_carriage_returns_do_not_matter() -> None:
    assert parse_registers(LIVELOCK.replace("\n", "\r\n")) == parse_registers(LIVELOCK)


def test_thread_times_grow_with_work_and_skip_the_dead() -> None:
    me = threading.get_native_id()
    before = thread_times(os.getpid(), {0: me})
    total = sum(number * number for number in range(2_000_000))
    after = thread_times(os.getpid(), {0: me, 7: 2**22 + 1})
    assert total and after.keys() == {0}
    assert 0.01 < after[0][0] - before[0][0] < 10
    assert after[0][1] >= before[0][1] >= 0
