# SPDX-License-Identifier: GPL-2.0-only
"""The test box itself, without the harness: what the lab promises is so."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import paramiko
import pytest

from harness.deadline import Deadline
from tests.vm.box.box import POWER, Box, Installed
from tests.vm.box.login import login, said
from tests.vm.box.serial_port import BRK, IAC
from tests.vm.conftest import qemu_of

pytestmark = [pytest.mark.box, pytest.mark.vm]

ENTRY = """menuentry test --id test {
    linux /vmlinuz root=/dev/nvme0n1p1 ro console=ttyS0,115200 net.ifnames=0 quiet once_only
}
"""


def power(box: Box, word: str) -> str:
    """The power command, as its user gives it."""
    argv = [sys.executable, str(POWER), str(box.folder), word]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def until(what: str, box: Box, beyond: int, limit_s: float = 60.0) -> None:
    """Wait until the console says something after its first `beyond` characters."""
    deadline = Deadline.after(limit_s)
    while what not in box.console[beyond:]:
        assert not deadline.expired, f"no {what!r} in {box.console[beyond:]!r}"
        time.sleep(0.2)


def test_a_box_with_ssh_sudo_a_serial_line_and_a_switch(box: Box) -> None:
    with login(box) as client:
        assert said(client, "id -un; sudo -n id -un").split() == ["lab", "root"]
        assert said(client, "sudo -n cat /sys/module/pstore/parameters/backend").strip() == "erst"
        assert "sysrq: HELP" not in box.console
        for clients in (1, 2):
            # Closed and opened again, the line is as it was.
            with socket.create_connection(("127.0.0.1", box.ports["telnet"]), timeout=10) as line:
                before = len(box.console)
                line.sendall(bytes((IAC, BRK)))
                time.sleep(0.2)
                line.sendall(b"h")
                until("sysrq: HELP", box, before)
                assert box.tell("cut", "serial") == "1 cut", clients
        assert power(box, "status") == "power is on"
        box.tell("power-fails", "1")
        with pytest.raises(AssertionError, match="does not answer"):
            power(box, "status")
        assert power(box, "on") == "done"
        box.tell("pull", "ssh")
        with pytest.raises((OSError, EOFError, paramiko.SSHException)):
            said(client, "true")
        box.tell("plug", "ssh")
    with login(box) as client:
        said(client, "true")


@pytest.mark.nightly
def test_a_once_only_entry_is_taken_once_and_the_default_comes_back(box: Box) -> None:
    with login(box) as client:
        assert "once_only" not in said(client, "cat /proc/cmdline")
        with client.open_sftp() as files, files.open("/tmp/entry", "w") as entry:
            entry.write(ENTRY)
        said(client, "sudo -n cp /tmp/entry /boot/grub/custom.cfg; sudo -n grub-reboot test; sync")
        before = len(box.console)
        with contextlib.suppress(AssertionError, OSError, EOFError, paramiko.SSHException):
            said(client, "sudo -n systemctl reboot")
        until("Restarting system", box, before)
    with login(box) as client:
        assert "once_only" in said(client, "cat /proc/cmdline")
        assert said(client, "sudo -n grub-editenv list").split() == ["next_entry="]
        assert power(box, "cycle") == "done"
    with login(box) as client:
        assert "once_only" not in said(client, "cat /proc/cmdline")
        said(client, "sudo -n rm /boot/grub/custom.cfg")


def test_no_box_survives_its_user(installed: Installed, tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from harness.deadline import Deadline\n"
        "from tests.vm.box.box import Installed, box_in_lab\n"
        "with box_in_lab(Installed(Path(sys.argv[1])), Path(sys.argv[2]), Deadline.after(60)):\n"
        "    print('on', flush=True); time.sleep(600)\n"
    )
    folder = tmp_path / "box"
    user = subprocess.Popen(
        [sys.executable, "-c", code, str(installed.folder), str(folder)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert user.stdout is not None and user.stdout.readline() == b"on\n"
    assert len(qemu_of(folder)) == 1
    os.kill(user.pid, signal.SIGKILL)
    user.wait()
    deadline = Deadline.after(20)
    while qemu_of(folder):
        assert not deadline.expired
        time.sleep(0.1)
