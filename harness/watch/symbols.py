# SPDX-License-Identifier: GPL-2.0-only
"""Addresses of a running kernel to names of functions: System.map, and the range where modules are."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.errors import UserError
from harness.watch.stacks import SUFFIX

#: Where x86-64 puts modules (arch/x86/include/asm/pgtable_64_types.h: MODULES_VADDR to MODULES_END).
MODULES = range(0xFFFFFFFFA0000000, 0xFFFFFFFFFF000000)
#: What nm(1) calls text: global, local, weak.
_TEXT = frozenset("TtWw")
#: Labels of the linker script and of the room before a function, at addresses that functions have as well.
_LABEL = re.compile(r"^(?:__pfx_|__pi_|__cfi_|_text$|_s(?:init)?text$)|_text_(?:start|end)$")
#: Where a stretch of functions ends.
_END = re.compile(r"^_e(?:init)?text$")


@dataclass(frozen=True)
class SymbolTable:
    """The functions of one kernel by address; addresses are as the guest has them (`nokaslr`)."""

    #: In ascending order; the name of what is no function is empty.
    addresses: tuple[int, ...]
    names: tuple[str, ...]
    #: The first address of each module's text, as far as it is known.
    modules: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def load(cls, system_map: Path) -> SymbolTable:
        """From a build's System.map, in about 30 ms. UserError if it cannot be read or is none."""
        functions: dict[int, str] = {}
        try:
            for line in system_map.read_text(encoding="ascii").splitlines():
                address, kind, name = line.split()
                if kind in _TEXT and not _LABEL.search(name):
                    functions.setdefault(int(address, 16), "" if _END.match(name) else SUFFIX.sub("", name))
        except OSError as error:
            raise UserError(f"cannot read {system_map}: {error.strerror}") from error
        except ValueError as error:
            raise UserError(f"{system_map} is no System.map: {error}") from error
        addresses = tuple(sorted(functions))
        return cls(addresses, tuple(functions[address] for address in addresses))

    def with_module(self, name: str, text: int) -> SymbolTable:
        """The same with a module whose text begins at `text`; 0 (the kernel hides it) adds nothing."""
        return replace(self, modules={**self.modules, name: text}) if text else self

    def name(self, address: int) -> str:
        """The function at an address; `[NAME]` in a module's text; else the address itself."""
        if address in MODULES:
            below = [(text, name) for name, text in self.modules.items() if text <= address]
            return f"[{max(below)[1] if below else 'module'}]"
        place = bisect_right(self.addresses, address) - 1
        if 0 <= place < len(self.names) - 1 and self.names[place]:
            return self.names[place]
        return f"{address:#x}"
