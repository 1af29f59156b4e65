# SPDX-License-Identifier: GPL-2.0-only
"""What each CPU was seen at, counted: evidence, and all that is known of a silent hang."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from harness.target.protocol import Sample, VcpuSample
from harness.watch.symbols import SymbolTable

#: What stands for a function where there is none to name.
HALTED, USER, KERNEL = "(halted)", "(user mode)", "(kernel)"
#: Functions of a CPU that are kept.
TOP = 20


@dataclass(frozen=True)
class VcpuHistogram:
    """How often one CPU was seen in which function, the most frequent first.

    HALTED and USER stand for themselves, KERNEL for a function whose name is not known.
    """

    cpu: int
    samples: int
    functions: tuple[tuple[str, int], ...]

    def as_json(self) -> dict[str, Any]:
        """`{"cpu": 1, "samples": 159, "functions": {"__handle_mm_fault": 53, ...}}`."""
        return {"cpu": self.cpu, "samples": self.samples, "functions": dict(self.functions)}

    def __str__(self) -> str:
        """`CPU 1 in __handle_mm_fault (53 of 159)`."""
        if not self.functions:
            return f"CPU {self.cpu} not seen"
        name, count = self.functions[0]
        at = name.strip("()") if name in (HALTED, USER, KERNEL) else name
        word = "" if name == HALTED else "in the " if name == KERNEL else "in "
        return f"CPU {self.cpu} {word}{at} ({count} of {self.samples})"


def function_at(cpu: VcpuSample, symbols: SymbolTable | None) -> str:
    """The function that a CPU was seen in, or what stands for it."""
    if cpu.halted:
        return HALTED
    if cpu.cpl != 0:
        return USER
    return symbols.name(cpu.rip) if symbols else KERNEL


class HistogramCounter:
    """Counts as samples come; keeps a number for each function, not the samples."""

    def __init__(self) -> None:
        self._counts: dict[int, Counter[str]] = {}

    def add(self, cpu: int, function: str) -> None:
        """One CPU was seen in `function`."""
        self._counts.setdefault(cpu, Counter())[function] += 1

    def clear(self) -> None:
        """Begin again."""
        self._counts.clear()

    def result(self) -> tuple[VcpuHistogram, ...]:
        """What was counted, in the order of the CPUs."""
        return tuple(counted(cpu, counts) for cpu, counts in sorted(self._counts.items()))


def counted(cpu: int, counts: Counter[str]) -> VcpuHistogram:
    """One CPU's functions; where two were seen as often, by name."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return VcpuHistogram(cpu, sum(counts.values()), tuple(ranked[:TOP]))


def histogram(samples: Iterable[Sample], symbols: SymbolTable | None) -> tuple[VcpuHistogram, ...]:
    """Of each CPU the functions it was seen in while the guest was not paused."""
    counter = HistogramCounter()
    for sample in samples:
        if sample.running:
            for cpu in sample.cpus:
                counter.add(cpu.cpu, function_at(cpu, symbols))
    return counter.result()


def histogram_text(histograms: Iterable[VcpuHistogram]) -> str:
    """For a person: a heading for each CPU, below it a line for each function with count and share."""
    lines: list[str] = []
    for one in histograms:
        lines.append(f"CPU {one.cpu}, {one.samples} samples")
        lines += [f"{count:8}  {count / one.samples:4.0%}  {name}" for name, count in one.functions]
    return "".join(f"{line}\n" for line in lines)
