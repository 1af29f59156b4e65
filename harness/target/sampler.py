# SPDX-License-Identifier: GPL-2.0-only
"""Looks at a guest's CPUs from outside, several times a second, without its help."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.deadline import Deadline
from harness.target.protocol import VcpuSample
from harness.target.qmp import Monitor, MonitorGone
from harness.target.samples import parse_registers, vcpu_samples

#: QEMU answers nobody while it writes an image of the memory, and not for long on a host that is loaded:
#: a late sample is no fault, so the sampler waits as long as QEMU lives.
_PATIENCE_S = 86400.0
#: From the end of the monitor's connection to that of QEMU, at most, s.
_ENDING_S = 5.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def sample_cpus(
    monitor: Monitor,
    pid: int,
    every_s: float,
    over: threading.Event,
    emit: Callable[[bool, tuple[VcpuSample, ...]], None],
) -> None:
    """Call `emit(running, cpus)` every `every_s` seconds until `over` is set: QEMU, process `pid`, has ended.

    MonitorGone if the monitor is lost and QEMU lives on: without samples a silence could not be dated.

    Under TCG the RIP of a running CPU is the beginning of the block of instructions that it is at: from QEMU
    7.2 on every jump stores it (gen_jmp_rel(), target/i386/tcg/translate.c), before that all but jumps within
    a page, so that it was at most a timer tick old. Nothing is asked of the CPU, which does not stop for it.
    """
    try:
        threads = _threads(monitor)
        while not over.is_set():
            text = monitor.hmp("info registers -a", Deadline.after(_PATIENCE_S))
            running = monitor.running
            emit(running, vcpu_samples(parse_registers(text), thread_times(pid, threads)))
            over.wait(every_s)
    except MonitorGone:
        if not over.wait(_ENDING_S):
            raise


def _threads(monitor: Monitor) -> dict[int, int]:
    """The host's thread of each CPU."""
    cpus = monitor.execute("query-cpus-fast", Deadline.after(_PATIENCE_S))
    return {cpu["cpu-index"]: cpu["thread-id"] for cpu in cpus}


def thread_times(pid: int, threads: Mapping[int, int]) -> dict[int, tuple[float, float]]:
    """CPU time of threads of a process and time they waited for a CPU, s; one that has ended is left out."""
    times = {}
    for key, thread in threads.items():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            times[key] = _thread_times(Path(f"/proc/{pid}/task/{thread}"))
    return times


def _thread_times(task: Path) -> tuple[float, float]:
    try:
        # Nanoseconds on a CPU, and on a run queue (fs/proc/base.c, proc_pid_schedstat(); CONFIG_SCHED_INFO).
        run_ns, wait_ns = (task / "schedstat").read_text().split()[:2]
        return round(int(run_ns) / 1e9, 6), round(int(wait_ns) / 1e9, 6)
    except FileNotFoundError:
        # utime and stime in clock ticks; the name before them, in brackets, may hold anything. Nobody counts
        # the waiting there.
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S, 0.0
