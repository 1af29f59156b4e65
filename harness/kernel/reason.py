# SPDX-License-Identifier: GPL-2.0-only
"""Why a configuration symbol did not get the value that was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.kernel.language import Block, Expr, Kconfig
from harness.suggest import nearest

#: How far an unmet dependency is followed to its own unmet dependency.
_DEPTH = 3
#: Selecting symbols named at most.
_NAMED = 4


def explain(
    wanted: Sequence[tuple[str, str]], src: Path, srcarch: str, config: Mapping[str, str]
) -> list[str]:
    """One reason for each (symbol, value) that the resolved `config` does not have."""
    reasons = _Reasons(Kconfig(src, srcarch), config)
    return [reasons.why(symbol, value) for symbol, value in wanted]


class _Reasons:
    def __init__(self, kconfig: Kconfig, config: Mapping[str, str]) -> None:
        self._kconfig = kconfig
        self._config = config

    def _value(self, name: str) -> str:
        if name[:1] in "\"'":
            return name[1:-1]
        if name in ("y", "m", "n") or (name not in self._kconfig.entries and name[:1].isdigit()):
            return name
        return self._config.get(name, "n").strip('"')

    def why(self, symbol: str, value: str) -> str:
        blocks = self._kconfig.entries.get(symbol)
        if not blocks:
            close = nearest(symbol, self._kconfig.entries, 0.75)
            return "this tree has no such symbol" + (f"; did you mean {close}?" if close else "")
        if value == "n":
            return self._why_set(symbol, blocks)
        return self._why_unset(symbol, value, blocks, _DEPTH)

    def _why_set(self, symbol: str, blocks: Sequence[Block]) -> str:
        active = [
            f"{block.name} ({where})"
            for block, condition, where in self._kconfig.selectors.get(symbol, [])
            if self._value(block.name) in ("y", "m") and condition.value(self._value) > 0
        ]
        if active:
            return f"it is selected by {_some(active)}"
        if not any(self._visible(block) for block in blocks):
            return f"it has no prompt here, its default decides ({blocks[0].where})"
        if any(block.choice for block in blocks):
            return "it is what a choice came to; set another member of the choice"
        return f"its default decides ({blocks[0].where})"

    def _why_unset(self, symbol: str, value: str, blocks: Sequence[Block], depth: int) -> str:
        level = 1 if value == "m" else 2
        failing = [self._failing(block, level if value in ("y", "m") else 1) for block in blocks]
        if all(failing):
            texts = []
            for block, parts in zip(blocks, failing, strict=True):
                shown = " and ".join(part.shown(self._value) for part in parts)
                further = self._further(symbol, parts, depth)
                texts.append(f"its dependency {shown} is not met ({block.where}){further}")
            return "; or ".join(dict.fromkeys(texts))
        if not any(self._visible(block) for block in blocks):
            prompts = [block.prompt for block in blocks if block.prompt is not None]
            if prompts:
                conditions = " or ".join(prompt.shown(self._value) for prompt in prompts)
                return f"it can be changed only if {conditions} ({blocks[0].where})"
            selectors = [
                f"{block.name} [={self._value(block.name)}]"
                for block, _, _ in self._kconfig.selectors.get(symbol, [])
            ]
            by = f"; it is selected by {_some(selectors)}" if selectors else ""
            return f"it has no prompt and cannot be set ({blocks[0].where}){by}"
        for block in blocks:
            if block.choice is not None:
                set_ones = [name for name in self._kconfig.members(block.choice) if self._value(name) == "y"]
                if set_ones and symbol not in set_ones:
                    taken = ", ".join(set_ones)
                    return f"only one of a choice can be set, and {taken} is ({block.choice.where})"
        ranges = [text for block in blocks for text in block.ranges]
        if ranges:
            return f"its range is {' or '.join(ranges)} ({blocks[0].where})"
        return f"it is of type {blocks[0].type or 'unknown'} ({blocks[0].where})"

    def _visible(self, block: Block) -> bool:
        return (
            block.prompt is not None and block.prompt.value(self._value) > 0 and not self._failing(block, 1)
        )

    def _failing(self, block: Block, level: int) -> list[Expr]:
        """The parts of an entry's conditions that are below `level` (1: m, 2: y)."""
        if block.type == "bool" and level == 2:
            # For a bool a dependency that is m is met.
            level = 1
        parts = [part for expr in block.all_depends for part in expr.conjuncts()]
        return [part for part in dict.fromkeys(parts) if part.value(self._value) < level]

    def _further(self, symbol: str, parts: Sequence[Expr], depth: int) -> str:
        """Why the first failing dependency that is a single symbol has its value."""
        for part in parts:
            negated = part.op == "not" and part.args[0].op == "sym"
            name = part.args[0].name if negated else part.name if part.op == "sym" else ""
            blocks = self._kconfig.entries.get(name)
            if not name or name == symbol or depth <= 1:
                continue
            if not blocks:
                return f": this tree has no {name}"
            if negated:
                return f": {name} is set, {self._why_set(name, blocks)}"
            if any(self._failing(block, 1) for block in blocks):
                return f": {name} is not set, {self._why_unset(name, 'y', blocks, depth - 1)}"
        return ""


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    return f"{shown} and {len(names) - _NAMED} more" if len(names) > _NAMED else shown
