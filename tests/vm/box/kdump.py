# SPDX-License-Identifier: GPL-2.0-only
"""kdump on the box: a kernel that lies ready for a crash, and makedumpfile, which it runs."""

from __future__ import annotations

from pathlib import Path

import paramiko

from tests.vm.userland import DUMPERS

from .login import said
from .newer import install

#: Where it leaves dumps.
DUMPS = "/var/crash"
#: What it needs of a test kernel's command line: memory for a second kernel, which has no initramfs.
RESERVED = "crashkernel=176M"
_SAVE = "/usr/local/sbin/save-vmcore"
_UNIT = "lab-kdump.service"
_WORDS = "root=/dev/nvme0n1p1 ro console=ttyS0,115200 quiet"
_FILES = {
    _SAVE: f"""#!/bin/sh
# Init of the kernel that a crash starts.
mount -t proc proc /proc
mount -o remount,rw /
mkdir -p {DUMPS}
/{DUMPERS[0]} -l -d 31 /proc/vmcore {DUMPS}/dump
sync
mount -o remount,ro /
echo b >/proc/sysrq-trigger
""",
    f"/etc/systemd/system/{_UNIT}": f"""[Unit]
Description=A kernel that lies ready for a crash
ConditionKernelCommandLine=crashkernel
DefaultDependencies=no
After=systemd-remount-fs.service
Before=ssh.service

[Service]
Type=oneshot
ExecStart=/sbin/kexec -p /vmlinuz "--command-line={_WORDS} init={_SAVE}"

[Install]
WantedBy=sysinit.target
""",
}


def install_kdump(client: paramiko.SSHClient, userland: Path) -> None:
    """From now on, whatever kernel is booted with memory set aside for it leaves a dump when it crashes."""
    install(client, userland, *DUMPERS)
    for path, text in _FILES.items():
        with client.open_sftp() as files, files.open("/tmp/file", "w") as file:
            file.write(text)
        said(client, f"sudo -n install -m 0755 /tmp/file {path} && rm /tmp/file")
    said(client, f"sudo -n rm -rf {DUMPS} && sudo -n systemctl --quiet enable {_UNIT}; sync")
