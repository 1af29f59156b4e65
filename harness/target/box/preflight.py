# SPDX-License-Identifier: GPL-2.0-only
"""Is a box fit for trials? Each thing looked at, what was found, and how to mend it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Sequence

from harness.deadline import Deadline
from harness.doctor import Finding
from harness.errors import HarnessError, InfraError
from harness.gpu.pci import gpu_finding, pci_devices
from harness.gpu.snapshot import snapshot
from harness.target.box.bootmethod import boot_method, root_argument
from harness.target.box.console import BoxConsole
from harness.target.box.machine import Box
from harness.target.box.ssh import Shell

#: Programs of the box that trials need, and Debian's packages.
PROGRAMS = {
    "sha256sum": "coreutils",
    "install": "coreutils",
    "mktemp": "coreutils",
    "tail": "coreutils",
    "tee": "coreutils",
    "base64": "coreutils",
    "tar": "tar",
    "depmod": "kmod",
    "find": "findutils",
    "findmnt": "util-linux",
    "dmesg": "util-linux",
}
#: What else a boot method needs.
FOR_METHOD = {"grub-reboot": {"reboot": "systemd-sysv"}}
#: Where Linux shows whether it is on.
SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
_ASK_S = 30.0
_MARK_S = 5.0
#: For a kernel, its module and the programs, MiB.
_ROOM_MIB = 200
_MEMORY_GIB = 1.0


def examine(box: Box) -> Iterator[Finding]:
    """Everything about a box; each as soon as it is known. Never raises for what it finds."""
    try:
        shell = box.shell()
        running = box.running()
    except HarnessError as error:
        yield Finding("SSH", False, error.message, error.hint or "is it switched on, and on the network?")
        if box.console:
            yield _look(
                "console", lambda: _kernel_answers(box.console), "the kernel hangs, or it is another line"
            )
        yield from _outside(box)
        return
    state = "" if running.clean else ", used by a trial: the next one puts it right"
    yield Finding("SSH", True, f"{box.ssh.user}@{box.ssh.host}, Linux {running.release}{state}")
    root = _look(
        "root", lambda: _root(box, shell), "`sudo: true`, and NOPASSWD for this user in /etc/sudoers.d"
    )
    yield root
    if not root.ok:
        yield from _outside(box)
        return
    yield _look("distribution", lambda: _distribution(shell), "")
    yield _look("processor", lambda: _processor(shell), "the programs for the box are x86-64")
    yield _look("memory", lambda: _memory(shell), f"trials need {_MEMORY_GIB:g} GiB")
    yield _look("programs", lambda: _programs(box, shell), "install what is missing on the box")
    yield _look("room", lambda: _room(box, shell), f"free {_ROOM_MIB} MiB below {box.config.folder}")
    yield _boot(box, shell)
    yield _gpu(box, shell)
    yield _console(box, shell)
    yield from _outside(box)


def _outside(box: Box) -> Iterator[Finding]:
    if box.power is None:
        yield Finding(
            "power", False, "no switch in the target's file",
            "without `power:` a box that hangs comes back by hand only", needed=False,
        )  # fmt: skip
        return
    try:
        state = box.power.status()
    except HarnessError as error:
        yield Finding("power", False, error.message, error.hint or "try the command by hand")
        return
    detail = {"on": "it is on", "off": "it is off", "unknown": "no `status` in the target's file"}[state]
    yield Finding("power", None if state == "unknown" else True, detail, "say how to ask", needed=False)


def _look(what: str, ask: Callable[[], tuple[bool, str]], mend: str) -> Finding:
    try:
        ok, detail = ask()
    except HarnessError as error:
        return Finding(what, False, error.message, error.hint or mend)
    return Finding(what, ok, detail, mend)


def _root(box: Box, shell: Shell) -> tuple[bool, str]:
    said = shell.run(["id", "-u"], _soon(), check=False)
    if said.out.strip() == "0":
        return True, "by sudo" if box.ssh.sudo else "logs in as root"
    return False, said.err.strip() or f"uid {said.out.strip()}"


def _distribution(shell: Shell) -> tuple[bool, str]:
    said = shell.run(["cat", "/etc/os-release"], _soon()).out
    found = re.search(r'^PRETTY_NAME="?(.*?)"?$', said, re.MULTILINE)
    return True, found[1] if found else "it does not say"


def _processor(shell: Shell) -> tuple[bool, str]:
    machine = shell.run(["uname", "-m"], _soon()).out.strip()
    count = shell.run(["nproc"], _soon()).out.strip()
    return machine == "x86_64", f"{machine}, {count} CPUs"


def _memory(shell: Shell) -> tuple[bool, str]:
    fields = dict(re.findall(r"(\w+):\s+(\d+) kB", shell.run(["cat", "/proc/meminfo"], _soon()).out))
    total = int(fields.get("MemTotal", 0)) / 2**20
    return total >= _MEMORY_GIB * 0.9, f"{total:.1f} GiB"


def _programs(box: Box, shell: Shell) -> tuple[bool, str]:
    needed = PROGRAMS | FOR_METHOD.get(box.config.boot.method, {})
    script = 'for name; do command -v "$name" >/dev/null || echo "$name"; done'
    missing = shell.run(["sh", "-c", script, "sh", *needed], _soon()).out.split()
    names = [f"{name} ({needed[name]})" for name in missing]
    return not missing, f"missing: {', '.join(names)}" if missing else f"all {len(needed)} are there"


def _room(box: Box, shell: Shell) -> tuple[bool, str]:
    shell.run(["mkdir", "-p", box.config.folder], _soon())
    said = shell.run(["df", "-Pk", box.config.folder], _soon()).out.splitlines()[-1].split()
    free = int(said[3]) // 1024
    return free >= _ROOM_MIB, f"{free} MiB free on {said[5]}"


def _boot(box: Box, shell: Shell) -> Finding:
    boot = box.config.boot
    method = boot_method(boot.method)

    def ask() -> tuple[bool, str]:
        if method.boots:
            _unsigned(shell)
        how = method.check(shell)
        if not method.boots:
            return True, how
        return True, f"{how}; {f'root={boot.root}' if boot.root else root_argument(shell)}"

    return _look(f"boot by {boot.method}", ask, "see `boot` in the target's file")


def _unsigned(shell: Shell) -> None:
    """InfraError if the firmware keeps GRUB and kexec from kernels that nobody signed."""
    # Four bytes of attributes, then 1: it is on (UEFI, "Globally Defined Variables").
    said = shell.run(["od", "-An", "-tu1", SECURE_BOOT], _soon(), check=False)
    if said.ok and said.out.split()[-1:] == ["1"]:
        raise InfraError(
            "Secure Boot is on: the firmware lets no kernel run that was built here",
            hint="switch it off in the firmware's setup",
        )


def _gpu(box: Box, shell: Shell) -> Finding:
    """GPUs by PCI id and driver; a box without the one that its file wants is fit all the same."""

    def run(argv: Sequence[str]) -> str:
        return shell.run(argv, _soon(), check=False).out

    try:
        return gpu_finding(pci_devices(snapshot(run)), box.config.gpu)
    except HarnessError as error:
        return Finding("GPU", False, error.message, error.hint, needed=False)


def _kernel_answers(console: BoxConsole | None) -> tuple[bool, str]:
    there = console is not None and console.kernel_answers(_MARK_S)
    return there, f"a kernel {'answers' if there else 'does not answer'} SysRq h"


def _console(box: Box, shell: Shell) -> Finding:
    console, config = box.console, box.config.console
    if console is None or config is None:
        mend = "without `console:` a hang is seen by its silence only"
        return Finding("console", False, "none in the target's file", mend, needed=False)
    mark = f"hmm-harness {secrets.token_hex(4)}"
    place = "/dev/kmsg" if config.netconsole else f"/dev/{config.device.partition(',')[0]}"

    def ask() -> tuple[bool, str]:
        def write() -> None:
            # A kernel that was told to be quiet still says what is worse than an error.
            shell.run(["tee", place], _soon(), send=f"<1>{mark}\r\n".encode())

        there = console.answers(write, mark.encode(), _MARK_S)
        return there, (
            f"what is written to {place} comes back" if there else f"what is written to {place} does not come"
        )

    mend = "is it this box's line, at its speed (`baud`), on this `device`?"
    if config.netconsole:
        mend = "its own kernel must send, too: modprobe netconsole netconsole=@/DEVICE,PORT@THIS_MACHINE/"
    return _look("console", ask, mend)


def _soon() -> Deadline:
    return Deadline.after(_ASK_S)
