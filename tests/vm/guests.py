# SPDX-License-Identifier: GPL-2.0-only
"""What the tests that boot guests share."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from pathlib import Path

from harness.deadline import Deadline
from harness.guest.initramfs import Entry, copy, file, write_initramfs
from harness.guest.plan import PLAN_PATH, Step, plan_text
from harness.guest.protocol import Garbage, Hello, Message, parse_line
from harness.target.cmdline import KernelParameters, trial_arguments
from harness.target.protocol import AgentLine, BootPlan, ConsoleData, Guest, GuestEnded, RawEvent
from harness.target.qemu import QemuTarget
from harness.target.recording import replay

#: Far beyond any boot; reached only when something is wrong.
PATIENCE_S = 180.0


#: Programs for the guest, in C.
SOURCES = {
    "binary": """
#include <fcntl.h>
#include <termios.h>
#include <unistd.h>
int main(void)
{
    int fd = open("/dev/console", O_WRONLY);
    unsigned char all[256];
    for (int i = 0; i < 256; i++)
        all[i] = i;
    for (int i = 0; i < 64; i++)
        if (write(fd, all, sizeof(all)) != sizeof(all))
            return 1;
    return tcdrain(fd) ? 1 : 0;
}
""",
    "sleeper": """
#include <unistd.h>
int main(void)
{
    for (;;)
        pause();
}
""",
}


#: Four ways of passing a second, each announced on the console, all on CPU 1. The loops are as tight as a
#: loop can be: one page, no call.
PHASES = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>
static volatile int go;
static char buffer[1 << 16];
static void end(int number) { (void)number; go = 0; }
static void begin(const char *name)
{
    struct itimerval second = { .it_value = { .tv_sec = 1 } };
    int fd = open("/dev/console", O_WRONLY);
    write(fd, name, strlen(name));
    close(fd);
    go = 1;
    setitimer(ITIMER_REAL, &second, 0);
}
__attribute__((noinline, aligned(4096))) void spin_here(void) { while (go) ; }
__attribute__((noinline, aligned(4096))) void spin_there(void) { while (go) ; }
int main(void)
{
    cpu_set_t one;
    int zero = open("/dev/zero", O_RDONLY);
    CPU_ZERO(&one);
    CPU_SET(1, &one);
    if (zero < 0 || sched_setaffinity(0, sizeof(one), &one))
        return 1;
    signal(SIGALRM, end);
    begin("phase: here\n");
    spin_here();
    begin("phase: halt\n");
    while (go)
        pause();
    begin("phase: there\n");
    spin_there();
    begin("phase: kernel\n");
    while (go)
        read(zero, buffer, sizeof(buffer));
    begin("phase: over\n");
    return 0;
}
"""


def make_plan(
    kernel: Path, programs: Path, folder: Path, steps: Sequence[Step], extra: Sequence[Entry] = ()
) -> BootPlan:
    """A boot of `steps` by the guest's init."""
    entries = [
        copy("init", programs / "init", executable=True),
        file(PLAN_PATH, plan_text(steps).encode()),
        *extra,
    ]
    return BootPlan(
        kernel=kernel,
        initramfs=write_initramfs(folder / "initramfs.cpio", entries),
        cmdline=trial_arguments(KernelParameters(preempt="none", watchdog_thresh_s=5)),
    )


def run_guest(plan: BootPlan, folder: Path, patience_s: float = PATIENCE_S) -> list[RawEvent]:
    """Boot and read to the end; the record on disk gives the same events."""
    deadline = Deadline.after(patience_s)
    events: list[RawEvent] = []
    with QemuTarget().boot(plan, folder, deadline) as guest:
        while event := guest.next_event(deadline):
            events.append(event)
    assert isinstance(events[-1], GuestEnded), events
    assert list(replay(folder)) == events
    return events


def console_of(events: Sequence[RawEvent]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, ConsoleData))


def messages_of(events: Sequence[RawEvent]) -> list[Message]:
    parsed = [parse_line(event.text) for event in events if isinstance(event, AgentLine)]
    messages = [message for message in parsed if not isinstance(message, Garbage)]
    assert len(messages) == len(parsed), parsed
    return messages


def wait_for_hello(guest: Guest) -> None:
    deadline = Deadline.after(PATIENCE_S)
    while event := guest.next_event(deadline):
        if isinstance(event, AgentLine):
            assert isinstance(parse_line(event.text), Hello)
            return
    raise AssertionError("the guest said no hello")


def gone(pid: int) -> bool:
    """True once the process has ended; waits for it."""
    deadline = Deadline.after(60)
    while not deadline.expired:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def endless_loop() -> bytes:
    """An ELF that QEMU starts through PVH (note Xen, type 18: entry) and that jumps to itself."""
    entry = 0x100000
    name = b"Xen\0"
    note = struct.pack("<III", len(name), 8, 18) + name + struct.pack("<Q", entry)
    headers = 64 + 2 * 56
    code_at = headers + len(note)
    size = code_at + 2
    header = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, entry, 64, 0, 0, 64, 56, 2, 64, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 7, 0, entry - code_at, entry - code_at, size, size, 4)
    notes = struct.pack("<IIQQQQQQ", 4, 4, headers, 0, 0, len(note), len(note), 4)
    return header + load + notes + note + b"\xeb\xfe"
