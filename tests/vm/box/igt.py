# SPDX-License-Identifier: GPL-2.0-only
"""IGT on the box: what was built for a newer Debian than the box has, with the libraries it was built for."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import paramiko

from tests.vm.userland import PROGRAMS, TESTS

from .login import said

_HOME = "/opt/igt"
_LOADED = f"""#!/bin/sh
exec {_HOME}/usr/lib64/ld-linux-x86-64.so.2 --library-path {_HOME}/usr/lib/x86_64-linux-gnu {_HOME}/%s "$@"
"""


def install_igt(client: paramiko.SSHClient, userland: Path) -> None:
    """The system of tests/vm/userland.py below /opt, and its programs where Debian has them."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz", compresslevel=1) as tar:
        tar.add(userland, _HOME)
        tar.add(userland / TESTS / "test-list.txt", f"/{TESTS}/test-list.txt")
        for name in (name for name in PROGRAMS if "igt" in name):
            text = (_LOADED % name).encode()
            program = tarfile.TarInfo(f"/{name}")
            program.size, program.mode = len(text), 0o755
            tar.addfile(program, io.BytesIO(text))
    archive.seek(0)
    with client.open_sftp() as files:
        files.putfo(archive, "/tmp/igt.tar.gz")
    said(client, "sudo -n tar -C / --no-same-owner -xf /tmp/igt.tar.gz && rm /tmp/igt.tar.gz")
