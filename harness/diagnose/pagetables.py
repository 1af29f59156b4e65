# SPDX-License-Identifier: GPL-2.0-only
"""Page tables of x86-64, for the entries that a debugger's helpers pass over: those that are not present.

Levels: arch/x86/include/asm/pgtable_types.h. Swap-like entries: arch/x86/include/asm/pgtable_64.h (type in
the top 5 bits, offset inverted below them), their types: include/linux/swap.h.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import drgn
from drgn.helpers.linux.boot import pgtable_l5_enabled

Kind = Literal["none", "present", "device private", "device exclusive", "migration", "swap"]

_PAGE = 4096
_ADDRESS = 0x000FFFFFFFFFF000
_PRESENT = 0x101  # _PAGE_PRESENT, _PAGE_PROTNONE
_PSE = 0x80
_TYPE_BITS = 5
_OFFSET_SHIFT = 9 + _TYPE_BITS
_MASK64 = (1 << 64) - 1


@dataclass(frozen=True)
class Entry:
    """What maps a virtual address. `pages`: 1, or 512 for one of the second level."""

    kind: Kind
    pfn: int = 0
    pages: int = 1

    def __str__(self) -> str:
        return self.kind + {1: "", 512: " (PMD)"}.get(self.pages, " (PUD)")


class PageTables:
    """The tables of one process. Faults of the library pass through: the caller knows what it asked for."""

    def __init__(self, prog: drgn.Program, mm: drgn.Object) -> None:
        self._prog = prog
        self._five = pgtable_l5_enabled(prog)
        self._pgd = int(mm.pgd)
        self._tables: dict[int, bytes] = {}
        # 6.15 made one type of device-exclusive entries out of two, and renamed the function that makes them.
        devices = 4 if "make_device_exclusive_range" in prog else 3
        self._device = 32 - devices - 1
        self._pfn_mask = (1 << (40 if self._five else 34)) - 1

    def entry(self, address: int) -> Entry:
        """The entry of a user address, whichever level it is on."""
        shifts = (48, 39, 30, 21, 12) if self._five else (39, 30, 21, 12)
        table = -1
        value = 0
        for shift in shifts:
            index = address >> shift & 511
            value = self._read(table, index)
            if shift == 12:
                break
            if not value:
                return Entry("none")
            if shift in (21, 30) and value & _PSE and value & _PRESENT:
                return Entry("present", (value & _ADDRESS) >> 12 & ~((1 << shift - 12) - 1), 1 << shift - 12)
            if not value & (_PRESENT | _PSE):
                return self._leaf(value, 1 << shift - 12)
            table = value & _ADDRESS
        return self._leaf(value, 1)

    def _leaf(self, value: int, pages: int) -> Entry:
        if not value:
            return Entry("none")
        if value & _PRESENT:
            return Entry("present", (value & _ADDRESS) >> 12, pages)
        kind = value >> (64 - _TYPE_BITS)
        offset = ((~value & _MASK64) << _TYPE_BITS & _MASK64) >> _OFFSET_SHIFT
        pfn = offset & self._pfn_mask
        if kind in (self._device, self._device + 1):
            return Entry("device private", pfn, pages)
        if self._device - 3 <= kind < self._device:
            return Entry("migration", pfn, pages)
        if self._device + 2 <= kind < 31:
            return Entry("device exclusive", pfn, pages)
        return Entry("swap", 0, pages)

    def _read(self, table: int, index: int) -> int:
        """An entry of the table at this physical address, or of the first one (-1). Tables are read once."""
        if table not in self._tables:
            place, physical = (self._pgd, False) if table < 0 else (table, True)
            self._tables[table] = self._prog.read(place, _PAGE, physical)
        return int.from_bytes(self._tables[table][8 * index : 8 * index + 8], "little")
