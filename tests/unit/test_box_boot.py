# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import InfraError, UserError
from harness.target.box import bootmethod
from harness.target.box.bootmethod import GrubReboot, grub_entry, with_entry
from harness.target.box.contact import Signs
from harness.target.box.kernellog import KernelLog
from harness.target.box.ssh import Shell, connect
from tests.unit.boxroom import ssh_server

CUSTOM = "# mine\nset timeout=3\n"
#: GRUB's tools as far as an entry needs them, on files of a folder.
TOOLS = {
    "grub-reboot": 'sed -i "/^next_entry=/d" "$ENV"; echo "next_entry=$1" >> "$ENV"\n',
    "grub-editenv": 'case "$2" in list) cat "$ENV";; unset) sed -i "/^$3=/d" "$ENV";; esac\n',
    "grub-probe": 'case "$1" in *fs_uuid) echo 1234-abcd;; *partmap) echo gpt;; *fs) echo ext2;; esac\n',
    "grub-mkrelpath": 'echo "/@root$1"\n',
}


@pytest.fixture
def boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A box's /boot/grub."""
    folder = tmp_path / "grub"
    folder.mkdir()
    (folder / "grub.cfg").write_text("if [ ${next_entry} ] ; ...\nsource ${config_directory}/custom.cfg\n")
    (folder / "grubenv").write_text("saved_entry=0\n")
    (folder / "custom.cfg").write_text(CUSTOM)
    monkeypatch.setattr(GrubReboot, "_place", lambda self, shell: (str(folder), "grub"))
    monkeypatch.setattr(bootmethod, "KEXEC_DEFAULTS", str(folder / "kexec"))
    return folder


@pytest.fixture
def shell(tmp_path: Path, boot: Path) -> Iterator[Shell]:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in TOOLS.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}")
        (tools / name).chmod(0o755)
    with ssh_server(tmp_path, PATH=f"{tools}:/usr/bin:/bin", ENV=str(boot / "grubenv")) as server:
        shell = connect("lab1", server.ssh)
        yield shell
        shell.close()


def test_an_entry_of_its_own_once(shell: Shell, boot: Path) -> None:
    grub = GrubReboot()
    assert grub.check(shell) == f"{boot}/custom.cfg and grub-reboot"
    for root in ("root=/dev/vda1", "root=PARTUUID=1-2"):
        grub.arm(shell, "/var/lib/x/vmlinuz", [root, "ro", "dyndbg=file x +p"])
        text = (boot / "custom.cfg").read_text()
        assert text.startswith(CUSTOM)
        assert text.count("menuentry") == 1
        assert f"\tlinux /@root/var/lib/x/vmlinuz {root} ro 'dyndbg=file x +p'\n" in text
        assert (
            "\tinsmod part_gpt\n\tinsmod ext2\n\tsearch --no-floppy --fs-uuid --set=root 1234-abcd\n" in text
        )
        assert (boot / "grubenv").read_text() == "saved_entry=0\nnext_entry=hmm-harness\n"
    grub.disarm(shell)
    assert (boot / "grubenv").read_text() == "saved_entry=0\n"


def test_a_grub_that_would_not_boot_it(shell: Shell, boot: Path) -> None:
    (boot / "grub.cfg").write_text("menuentry Debian {}\n")
    with pytest.raises(InfraError, match=r"does not read custom\.cfg"):
        GrubReboot().check(shell)
    (boot / "grub.cfg").write_text("source custom.cfg\n")
    with pytest.raises(InfraError, match=r"does not know next_entry"):
        GrubReboot().check(shell)


def test_a_reboot_that_goes_past_grub(shell: Shell, boot: Path) -> None:
    (boot / "kexec").write_text("# LOAD_KEXEC=true\nLOAD_KEXEC=false\n")
    GrubReboot().check(shell)
    (boot / "kexec").write_text("LOAD_KEXEC=true\nKERNEL_IMAGE=/vmlinuz\n")
    with pytest.raises(InfraError, match="past GRUB"):
        GrubReboot().check(shell)


def test_a_word_that_grub_cannot_be_given() -> None:
    with pytest.raises(UserError, match="cannot be given to GRUB"):
        grub_entry("1", "/vmlinuz", [], ["it's"])


def test_the_entry_is_what_grub_takes_for_a_script(tmp_path: Path) -> None:
    entry = grub_entry("1-2", "/boot/vm linuz", ["ext2"], ["ro", "a=$b", "x;y", '"'])
    (tmp_path / "custom.cfg").write_text(with_entry("", entry))
    try:
        done = subprocess.run(["grub-script-check", tmp_path / "custom.cfg"], check=False)
    except FileNotFoundError:
        pytest.skip("no grub-script-check here")
    assert done.returncode == 0
    assert "linux '/boot/vm linuz' ro 'a=$b' 'x;y' '\"'" in entry


def test_only_the_kernel_that_is_tested_is_heard(tmp_path: Path) -> None:
    heard: list[bytes] = []
    log = KernelLog(tmp_path / "boot.log", heard.append)
    before = b"[ 99.0] WARNING: CPU: 0 of the other kernel\r\nreboot: Restarting system\r\n" + b"GRUB " * 2000
    for byte in before + b"\r\n[    0.000000] Linux ver":
        log.feed(bytes((byte,)))
    assert heard == []
    log.feed(b"sion 6.12.1\r\n[    0.1] Command line: ro\r\n")
    log.feed(b"Linux version again")
    log.close()
    assert b"".join(heard) == (
        b"[    0.000000] Linux version 6.12.1\r\n[    0.1] Command line: ro\r\nLinux version again"
    )
    assert (tmp_path / "boot.log").read_bytes() == before + b"\r\n"


def test_a_first_line_that_was_missed(tmp_path: Path) -> None:
    heard: list[bytes] = []
    log = KernelLog(tmp_path / "boot.log", heard.append)
    log.feed(b"half a li")
    log.kernel_runs()
    log.feed(b"ne of it\n")
    log.close()
    assert heard == [b"half a li", b"ne of it\n"]


@pytest.mark.parametrize(
    ("signs", "finding"),
    [
        (Signs(ping=False, sshd=False, kernel=True, user_space=True, power=True), "network"),
        (Signs(ping=True, sshd=False, kernel=True, user_space=False, power=True), "hang"),
        (Signs(ping=False, sshd=False, kernel=True, user_space=False, power=True), "hang"),
        (Signs(ping=True, sshd=False, kernel=None, user_space=None, power=None), "hang"),
        (Signs(ping=False, sshd=False, kernel=False, user_space=False, power=True), "dead"),
        (Signs(ping=None, sshd=False, kernel=None, user_space=None, power=None), "dead"),
        (Signs(ping=False, sshd=False, kernel=False, user_space=False, power=False), "dead"),
    ],
)
def test_whose_silence_it_is(signs: Signs, finding: str) -> None:
    assert signs.finding == finding
