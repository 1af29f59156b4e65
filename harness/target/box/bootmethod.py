# SPDX-License-Identifier: GPL-2.0-only
"""How a kernel is booted once, by GRUB or kexec. What the box boots by default stays as it is."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from typing import Protocol

from harness.deadline import Deadline
from harness.errors import InfraError, UserError
from harness.target.box.config import Method
from harness.target.box.ssh import Shell

ENTRY = "hmm-harness"
_BEGIN, _END = f"### {ENTRY} begin", f"### {ENTRY} end"
#: Where Debian's kexec-tools are told whether a reboot goes by kexec, to the default kernel (shipped: true).
KEXEC_DEFAULTS = "/etc/default/kexec"
#: Words that mean themselves in a GRUB script.
_PLAIN = re.compile(r"[A-Za-z0-9_./:=,@%+-]+")
_ASK_S = 30.0


class BootMethod(Protocol):
    """Starts a kernel that lies on the box, once."""

    boots: bool
    """Whether the box starts anew at all."""

    def check(self, shell: Shell) -> str:
        """What there is to do it with, in words. InfraError or UserError if it cannot be done."""

    def arm(self, shell: Shell, kernel: str, cmdline: Sequence[str]) -> None:
        """Make the next start the kernel's. InfraError if it cannot be."""

    def start(self, shell: Shell) -> None:
        """Leave what runs now for it; returns when that has begun."""

    def disarm(self, shell: Shell) -> None:
        """Whatever was armed and did not happen must not happen later."""


class GrubReboot:
    """An entry of its own in `custom.cfg`, and `grub-reboot`, which GRUB forgets as it boots it."""

    boots = True

    def check(self, shell: Shell) -> str:
        """See `BootMethod.check`."""
        folder, tool = self._place(shell)
        config = shell.run(["cat", f"{folder}/grub.cfg"], _soon()).out
        for needed, why in (
            ("custom.cfg", "does not read custom.cfg (Debian's 41_custom does)"),
            ("next_entry", "does not know next_entry (Debian's 00_header does)"),
        ):
            if needed not in config:
                raise InfraError(f"{folder}/grub.cfg {why}", hint="run update-grub on the box, or use kexec")
        self._variables(shell, tool)
        kexec = shell.run(["cat", KEXEC_DEFAULTS], _soon(), check=False)
        if kexec.ok and re.search(r"""^\s*LOAD_KEXEC=["']?true""", kexec.out, re.MULTILINE):
            raise InfraError(
                f"LOAD_KEXEC=true in {KEXEC_DEFAULTS}: a reboot goes past GRUB, to the default kernel",
                hint="set it to false on the box",
            )
        return f"{folder}/custom.cfg and {tool}-reboot"

    def arm(self, shell: Shell, kernel: str, cmdline: Sequence[str]) -> None:
        """See `BootMethod.arm`."""
        folder, tool = self._place(shell)
        before = self._variables(shell, tool)
        custom = f"{folder}/custom.cfg"
        there = shell.run(["cat", custom], _soon(), check=False)
        text = with_entry(there.out if there.ok else "", self._entry(shell, tool, kernel, cmdline))
        shell.write(text.encode(), custom, _soon())
        shell.run([f"{tool}-reboot", ENTRY], _soon())
        after = self._variables(shell, tool)
        if after.pop("next_entry", "") != ENTRY:
            raise InfraError(f"{tool}-reboot left no next_entry", hint=f"is {folder}/grubenv writable?")
        before.pop("next_entry", None)
        if after != before:
            self.disarm(shell)
            raise InfraError(f"{tool}-reboot changed more than next_entry in {folder}/grubenv")

    def start(self, shell: Shell) -> None:
        """See `BootMethod.start`."""
        _leave(shell, ["reboot"])

    def disarm(self, shell: Shell) -> None:
        """See `BootMethod.disarm`."""
        _, tool = self._place(shell)
        if self._variables(shell, tool).get("next_entry"):
            shell.run([f"{tool}-editenv", "-", "unset", "next_entry"], _soon())

    def _place(self, shell: Shell) -> tuple[str, str]:
        """GRUB's folder, and how its tools' names begin."""
        for folder, tool in (("/boot/grub", "grub"), ("/boot/grub2", "grub2")):
            if shell.run(["test", "-f", f"{folder}/grub.cfg"], _soon(), check=False).ok:
                return folder, tool
        raise InfraError(
            "no grub.cfg in /boot/grub or /boot/grub2", hint="is GRUB its boot loader? else use kexec"
        )

    def _variables(self, shell: Shell, tool: str) -> dict[str, str]:
        lines = shell.run([f"{tool}-editenv", "-", "list"], _soon()).out.splitlines()
        return {name: value for name, _, value in (line.partition("=") for line in lines)}

    def _entry(self, shell: Shell, tool: str, kernel: str, cmdline: Sequence[str]) -> str:
        def probe(target: str) -> str:
            return shell.run([f"{tool}-probe", f"--target={target}", kernel], _soon()).out.strip()

        path = shell.run([f"{tool}-mkrelpath", kernel], _soon()).out.strip()
        modules = [*(f"part_{name}" for name in probe("partmap").split()), probe("fs")]
        return grub_entry(probe("fs_uuid"), path, modules, cmdline)


class Kexec:
    """The running kernel starts the next one; after that, the firmware starts what it always does."""

    boots = True

    def check(self, shell: Shell) -> str:
        """See `BootMethod.check`."""
        version = shell.run(["kexec", "--version"], _soon()).out.strip()
        shut = shell.run(["cat", "/proc/sys/kernel/kexec_load_disabled"], _soon(), check=False).out.strip()
        if shut == "1":
            raise InfraError("kernel.kexec_load_disabled is set", hint="it stays so until the box boots")
        return version

    def arm(self, shell: Shell, kernel: str, cmdline: Sequence[str]) -> None:
        """See `BootMethod.arm`."""
        shell.run(["kexec", "-a", "-l", kernel, f"--command-line={' '.join(cmdline)}"], _soon())

    def start(self, shell: Shell) -> None:
        """See `BootMethod.start`."""
        shell.run(["sync"], Deadline.after(60))
        _leave(shell, ["kexec", "-e"])

    def disarm(self, shell: Shell) -> None:
        """See `BootMethod.disarm`."""
        shell.run(["kexec", "-u"], _soon(), check=False)


class NoBoot:
    """The box runs what it runs; it must be the kernel that is tested."""

    boots = False

    def check(self, shell: Shell) -> str:
        """See `BootMethod.check`."""
        return "it runs what it runs"

    def arm(self, shell: Shell, kernel: str, cmdline: Sequence[str]) -> None:
        """Nothing to arm."""

    def start(self, shell: Shell) -> None:
        """It runs."""

    def disarm(self, shell: Shell) -> None:
        """Nothing was armed."""


def boot_method(name: Method) -> BootMethod:
    """The method of that name."""
    methods: dict[Method, BootMethod] = {"grub-reboot": GrubReboot(), "kexec": Kexec(), "none": NoBoot()}
    return methods[name]


def grub_entry(uuid: str, path: str, modules: Sequence[str], cmdline: Sequence[str]) -> str:
    """A menu entry that boots a kernel of a file system. UserError for a word that GRUB cannot be given."""
    words = [_grub_word(word) for word in cmdline]
    lines = [
        f"menuentry '{ENTRY}' --id {ENTRY} {{",
        *(f"\tinsmod {module}" for module in modules),
        f"\tsearch --no-floppy --fs-uuid --set=root {uuid}",
        f"\tlinux {_grub_word(path)} {' '.join(words)}",
        "}",
    ]
    return "\n".join(lines)


def with_entry(text: str, entry: str) -> str:
    """A `custom.cfg` with this entry in its block; all else stays as it is."""
    block = f"{_BEGIN}\n{entry}\n{_END}\n"
    own = re.compile(rf"^{re.escape(_BEGIN)}$.*?^{re.escape(_END)}$\n?", re.MULTILINE | re.DOTALL)
    if own.search(text):
        return own.sub(lambda found: block, text, count=1)
    return f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}{block}"


def root_argument(shell: Shell) -> str:
    """`root=` of the box's own root file system, for a kernel without an initramfs.

    UserError if such a kernel could not find it: LVM, RAID, an encrypted disk, a network.
    """
    said = shell.run(["findmnt", "-n", "-o", "SOURCE,FSTYPE,PARTUUID", "/"], _soon(), root=False).out.split()
    device, kind, *uuid = said
    if not re.fullmatch(r"/dev/(vd|sd|nvme|xvd|hd)[a-z0-9]+", device):
        raise UserError(
            f"its root file system is on {device}, which a kernel without an initramfs does not find",
            hint="say `boot: {root: ...}` in the target's file, if it can be found after all",
        )
    if kind != "ext4":
        raise UserError(f"its root file system is {kind}: kernels for a box have ext4")
    return f"root=PARTUUID={uuid[0]}" if uuid else f"root={device}"


def _grub_word(word: str) -> str:
    if _PLAIN.fullmatch(word):
        return word
    if "'" in word or not word.isprintable():
        raise UserError(f"{word!r} cannot be given to GRUB")
    return f"'{word}'"


def _leave(shell: Shell, argv: Sequence[str]) -> None:
    """A command that ends the connection it came by, sooner or later."""
    with contextlib.suppress(InfraError):
        shell.run(argv, Deadline.after(10.0))


def _soon() -> Deadline:
    return Deadline.after(_ASK_S)
