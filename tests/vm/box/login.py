# SPDX-License-Identifier: GPL-2.0-only
"""A login on the box that owes nothing to the harness: what tests look at it with."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator

import paramiko

from harness.deadline import Deadline

from .box import Box

# A box that is not up yet is no error to report, least of all with a trace.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)
#: From the switch to a login; twenty times what it takes on a quiet machine.
UP_S = 240.0


@contextlib.contextmanager
def login(box: Box, up_s: float = UP_S) -> Iterator[paramiko.SSHClient]:
    """A session with the box, waited for until it is up."""
    deadline = Deadline.after(up_s)
    ssh = box.target["ssh"]
    while True:
        client = paramiko.SSHClient()
        client.load_host_keys(ssh["known_hosts"])
        try:
            client.connect(
                ssh["host"],
                ssh["port"],
                ssh["user"],
                key_filename=ssh["key"],
                allow_agent=False,
                look_for_keys=False,
                timeout=10,
                banner_timeout=30,
                auth_timeout=30,
            )
            break
        except (OSError, EOFError, paramiko.SSHException) as error:
            client.close()
            if isinstance(error, paramiko.BadHostKeyException | paramiko.AuthenticationException):
                raise
            assert not deadline.expired, f"not up after {up_s:.0f} s: {error}; console: {box.console[-2000:]}"
            time.sleep(0.5)
    with client:
        yield client


def said(client: paramiko.SSHClient, command: str) -> str:
    """What a command on the box prints; it must succeed."""
    _, output, errors = client.exec_command(command, timeout=60)
    text = output.read().decode(errors="replace")
    status = output.channel.recv_exit_status()
    assert status == 0, f"{command}: {status}: {text}{errors.read().decode(errors='replace')}"
    return text
