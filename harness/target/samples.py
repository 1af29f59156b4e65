# SPDX-License-Identifier: GPL-2.0-only
"""What QEMU's `info registers -a` says about each CPU of an x86-64 guest. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.errors import InfraError
from harness.target.protocol import Registers, VcpuSample

_CPU = re.compile(r"^CPU#(\d+)\s*$", re.MULTILINE)
#: `RIP=ffffffff812c6ac3`, `R8 =...`, `CPL=0`; of a CPU that is not in 64-bit mode `EIP=0000fff0`.
_VALUE = re.compile(
    r"\b([RE](?:AX|BX|CX|DX|SI|DI|BP|SP|IP|FL)|R\d{1,2}|[CD]R\d|EFER|CPL|II|A20|SMM|HLT) ?=([0-9a-f]+)"
)
#: `GS =0010 ffff8880bd429000 ffffffff 00c09300`: selector, base, limit, flags (target/i386/cpu-dump.c).
_SEGMENT = re.compile(r"^([C-GS]S) ?=([0-9a-f]{4}) ([0-9a-f]+) ", re.MULTILINE)
#: 32-bit names of what a 64-bit CPU has.
_WIDER = {f"E{name}": f"R{name}" for name in ["AX", "BX", "CX", "DX", "SI", "DI", "BP", "SP", "IP", "FL"]}


def parse_registers(text: str) -> Registers:
    """The registers of each CPU by QEMU's names, in capitals.

    RAX to R15, RIP, RFL, CR0 to CR4, DR0 to DR7, EFER; CPL, II, A20, SMM and HLT, which are printed with
    them; selectors as CS, SS, DS, ES, FS, GS, and their bases as CS_BASE and so on. A CPU in 16- or 32-bit
    mode (before the kernel has switched it, or in a 32-bit program) has the same names. InfraError for a text
    that is not that of x86.
    """
    _, *parts = _CPU.split(text)
    registers = {int(number): _one(block) for number, block in zip(parts[::2], parts[1::2], strict=True)}
    if not registers or not all({"RIP", "CPL", "HLT"} <= values.keys() for values in registers.values()):
        raise InfraError(
            f"QEMU's registers are not those of an x86-64 CPU: {' '.join(text.split())[:80] or 'nothing'}",
            hint="only x86-64 guests can be looked at from outside",
        )
    return registers


def _one(block: str) -> dict[str, int]:
    values = {_WIDER.get(name, name): int(value, 16) for name, value in _VALUE.findall(block)}
    for name, selector, base in _SEGMENT.findall(block):
        values |= {name: int(selector, 16), f"{name}_BASE": int(base, 16)}
    return values


def vcpu_samples(registers: Registers, times: Mapping[int, tuple[float, float]]) -> tuple[VcpuSample, ...]:
    """What each CPU is at, in the order of their numbers.

    `times`: CPU time of each one's thread, and time it waited for a CPU of the host, s.
    """
    return tuple(
        VcpuSample(
            cpu=cpu,
            rip=values["RIP"],
            cpl=values["CPL"],
            halted=bool(values["HLT"]),
            run_s=times.get(cpu, (0.0, 0.0))[0],
            wait_s=times.get(cpu, (0.0, 0.0))[1],
        )
        for cpu, values in sorted(registers.items())
    )
