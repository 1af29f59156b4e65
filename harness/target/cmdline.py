# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's command line: what the machine needs, and what a trial asks of the kernel's watchdogs."""

from __future__ import annotations

from dataclasses import dataclass

from harness.target.protocol import BootPlan


@dataclass(frozen=True)
class KernelParameters:
    """What a trial sets on the kernel's command line; None leaves the kernel's own default."""

    preempt: str | None = None
    """none, voluntary, full or lazy (PREEMPT_DYNAMIC, kernel/sched/core.c `setup_preempt_mode`)."""
    watchdog_thresh_s: int | None = None
    """A soft lockup is reported after twice this (kernel/watchdog.c)."""
    rcu_stall_s: int | None = None
    """`rcupdate.rcu_cpu_stall_timeout` (kernel/rcu/tree_stall.h; 3 to 300)."""
    workqueue_thresh_s: int | None = None
    """`workqueue.watchdog_thresh`: how long a pool may stand still (kernel/workqueue.c)."""
    hung_task_s: int | None = None
    """How long a task may be blocked (kernel/hung_task.c)."""


def trial_arguments(parameters: KernelParameters) -> tuple[str, ...]:
    """The kernel parameters of a trial, for `BootPlan.cmdline`."""
    arguments: list[str] = []
    if parameters.preempt is not None:
        arguments.append(f"preempt={parameters.preempt}")
    if parameters.watchdog_thresh_s is not None:
        arguments.append(f"watchdog_thresh={parameters.watchdog_thresh_s}")
    if parameters.rcu_stall_s is not None:
        arguments.append(f"rcupdate.rcu_cpu_stall_timeout={parameters.rcu_stall_s}")
    if parameters.workqueue_thresh_s is not None:
        arguments.append(f"workqueue.watchdog_thresh={parameters.workqueue_thresh_s}")
    if parameters.hung_task_s is not None:
        arguments += [
            f"sysctl.kernel.hung_task_timeout_secs={parameters.hung_task_s}",
            # Ten reports are the default, then the detector falls silent.
            "sysctl.kernel.hung_task_warnings=-1",
        ]
    return tuple(arguments)


#: A hang or an oops ends the guest by itself; names as in 6.12 and 7.3 (kernel/watchdog.c, kernel/panic.c,
#: kernel/rcu/tree_stall.h, kernel/workqueue.c, kernel/hung_task.c).
STOP_BY_ITSELF = (
    "softlockup_panic=1",
    "sysctl.kernel.hardlockup_panic=1",
    "sysctl.kernel.panic_on_rcu_stall=1",
    "workqueue.panic_on_stall=1",
    "sysctl.kernel.hung_task_panic=1",
    "oops=panic",
)


def effective_cmdline(plan: BootPlan) -> tuple[str, ...]:
    """The whole command line, in order; where the kernel lets the last one win, the plan does.

    `quiet` spares a slow serial console the messages of the boot; behind `earlycon` it comes late enough for
    the kernel's version and command line to be on record. Only soft lockup, hard lockup and workqueue headers
    are KERN_EMERG; call traces, RCU and hung-task lines are not, so the level goes up to 7 (all but
    KERN_DEBUG) before init starts (`do_sysctl_args()`, fs/proc/proc_sysctl.c, sets `sysctl.` parameters).
    """
    # Nothing from outside ends a guest on the virtual clock: a hang has to end in a panic of its own.
    # With its CPUs' ticks apart, turns are shorter, and no two of QEMU's timers fall close together.
    virtual = {"host": (), "virtual": (*STOP_BY_ITSELF, "skew_tick=1")}[plan.clock]
    # A microvm has no ACPI that would announce fw_cfg.
    machine = {"microvm": ("qemu_fw_cfg.ioport=0x14@0x510",), "q35": ()}[plan.machine]
    # Under emulation the TSC becomes the clock a second after boot, by stop_machine() (timekeeping_notify(),
    # kernel/time/timekeeping.c). If a CPU spins in the kernel by then, the others wait in their stopper
    # threads for ever, and none is left for the thread that prints what the watchdog says (from 7.x on the
    # 8250 console has one, kernel/printk/nbcon.c): a silent hang. Without TSC the clock is settled before.
    clock = {"tcg": ("tsc=unstable",), "kvm": ()}[plan.accel]
    # At boot the kernel waits ten ticks to see whether the timer interrupts come (timer_irq_works(),
    # arch/x86/kernel/apic/io_apic.c) and panics if they do not: on a loaded host, emulated ones may not.
    if plan.clock == "host" and plan.accel == "tcg":
        clock = (*clock, "no_timer_check")
    return (
        "console=ttyS0",
        # Without it, a panic before the console is set up says nothing.
        "earlycon=uart8250,io,0x3f8",
        "quiet",
        "sysctl.kernel.printk=7",
        # Whatever ends the guest ends QEMU, which runs with -no-reboot; a triple fault does on both machines.
        "panic=-1",
        "reboot=t",
        *machine,
        *clock,
        "nokaslr",
        *virtual,
        *plan.cmdline,
    )
