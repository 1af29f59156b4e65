# SPDX-License-Identifier: GPL-2.0-only
"""How many guests a machine holds: each takes its CPUs and its memory, and none of either is given twice.

A guest short of CPU time looks as if it hung, so an oversubscribed machine would measure itself.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.config import BootConfig

#: What a trial takes beside its guest's memory, MB. Seen: QEMU 100 beside what its guest touches, and the
#: process that watches it 290 when it reads the memory of a hang.
TRIAL_MB = 400
#: Where a control group (v2) sees its own limits: in a container, its root.
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Need:
    """What one trial takes of a machine while it runs."""

    cores: int
    memory_mb: int

    def __str__(self) -> str:
        return f"{self.cores} core{'s' if self.cores > 1 else ''} and {self.memory_mb} MB"


@dataclass(frozen=True)
class Host:
    """What a machine has for trials: cores that this process may use, and memory that is free."""

    cores: int
    memory_mb: int

    @classmethod
    def here(cls) -> Host:
        """This machine, or what the control group of this process is allowed of it."""
        quota = _cpu_quota(_CGROUP / "cpu.max")
        cores = len(os.sched_getaffinity(0))
        free = _available_mb(Path("/proc/meminfo").read_text(encoding="ascii"))
        left = _memory_left_mb(_CGROUP)
        return cls(min(cores, quota or cores), min(free, free if left is None else left))

    def holds(self, needs: Sequence[Need]) -> bool:
        """Whether these trials fit at once. One alone always does: a small machine may be enough for it."""
        if len(needs) <= 1:
            return True
        cores = sum(need.cores for need in needs)
        return cores <= self.cores and sum(need.memory_mb for need in needs) <= self.memory_mb

    def most(self, need: Need) -> int:
        """How many trials of this kind fit at once; 1 at least."""
        return max(1, min(self.cores // need.cores, self.memory_mb // need.memory_mb))


def need_of(boot: BootConfig) -> Need:
    """What a trial with this guest takes. On the virtual clock the CPUs take turns on one core."""
    return Need(1 if boot.clock == "virtual" else boot.cpus, boot.memory_mb + TRIAL_MB)


def places(wanted: int | Literal["auto"], host: Host, needs: Sequence[Need]) -> tuple[int, str]:
    """How many trials may run at once, and what to tell somebody who wanted more or did not say.

    `needs`: of every kind of trial there is; the number is what fits of the smallest. Nothing to tell: "".
    """
    smallest = min(needs, key=lambda need: (need.cores, need.memory_mb))
    most = max(host.most(need) for need in needs)
    has = f"this machine has {host.cores} core{'s' if host.cores > 1 else ''} and {host.memory_mb} MB free"
    if wanted == "auto":
        return most, f"{_at_once(most)}: a trial takes {smallest}, {has}"
    if wanted > most:
        return most, f"--jobs {wanted} is more than fits, {_at_once(most)}: a trial takes {smallest}, {has}"
    return wanted, ""


def _at_once(number: int) -> str:
    return f"{number} trials at once" if number > 1 else "one trial at a time"


def _available_mb(meminfo: str) -> int:
    """MemAvailable of /proc/meminfo, MB."""
    line = next(line for line in meminfo.splitlines() if line.startswith("MemAvailable:"))
    return int(line.split()[1]) // 1024


def _cpu_quota(path: Path) -> int | None:
    """Whole cores that a control group may use (cpu.max of cgroup v2); None: no limit. At least one."""
    words = _read(path).split()
    if len(words) != 2 or not words[0].isdecimal():
        return None
    return max(1, int(words[0]) // int(words[1]))


def _memory_left_mb(group: Path) -> int | None:
    """What a control group may still take (memory.max less memory.current), MB; None: no limit."""
    most, used = _read(group / "memory.max").strip(), _read(group / "memory.current").strip()
    if not (most.isdecimal() and used.isdecimal()):
        return None
    return max(0, int(most) - int(used)) // 2**20


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""  # no such control group: no limit
