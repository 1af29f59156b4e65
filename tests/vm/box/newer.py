# SPDX-License-Identifier: GPL-2.0-only
"""Programs on the box that were built for a newer Debian, with the libraries they were built for."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import paramiko

from tests.vm.userland import PROGRAMS, TESTS

from .login import said

_LOADED = """#!/bin/sh
exec {home}/usr/lib64/ld-linux-x86-64.so.2 \\
    --library-path {home}/usr/lib/x86_64-linux-gnu {home}/{program} "$@"
"""


def install(client: paramiko.SSHClient, userland: Path, *programs: str) -> None:
    """A system of tests/vm/userland.py below /opt, and programs of it where Debian has them."""
    home = f"/opt/{userland.name}"
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz", compresslevel=1) as tar:
        tar.add(userland, home)
        for program in programs:
            text = _LOADED.format(home=home, program=program).encode()
            entry = tarfile.TarInfo(f"/{program}")
            entry.size, entry.mode = len(text), 0o755
            tar.addfile(entry, io.BytesIO(text))
    archive.seek(0)
    with client.open_sftp() as files:
        files.putfo(archive, "/tmp/newer.tar.gz")
    said(client, "sudo -n tar -C / --no-same-owner -xf /tmp/newer.tar.gz && rm /tmp/newer.tar.gz")


def install_igt(client: paramiko.SSHClient, userland: Path) -> None:
    """IGT's runner and its tests."""
    install(client, userland, *(program for program in PROGRAMS if "igt" in program))
    said(client, f"sudo -n cp /opt/{userland.name}/{TESTS}/test-list.txt /{TESTS}/")
