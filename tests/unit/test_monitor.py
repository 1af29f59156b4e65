# SPDX-License-Identifier: GPL-2.0-only
"""The monitor's client when nobody answers, and the socket without a name."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import InfraError
from harness.target.memory import nameless_listener, save_core
from harness.target.qmp import Monitor, MonitorGone


def test_an_end_that_is_closed_says_so() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    monitor = Monitor(ours)
    with pytest.raises(MonitorGone, match="QEMU has ended"):
        monitor.execute("query-status")
    monitor.close()


def test_silence_ends_with_the_deadline() -> None:
    ours, theirs = socket.socketpair()
    monitor = Monitor(ours)
    with pytest.raises(InfraError, match=r"does not answer \(query-status\)") as error:
        monitor.execute("query-status", Deadline.after(0.05))
    assert not isinstance(error.value, MonitorGone)
    monitor.close()
    theirs.close()


def test_an_end_that_closes_later_wakes_who_waits() -> None:
    ours, theirs = socket.socketpair()
    monitor = Monitor(ours)
    closer = threading.Timer(0.05, theirs.close)
    closer.start()
    with pytest.raises(MonitorGone, match="QEMU has ended"):
        monitor.hmp("info registers -a", Deadline.after(60))
    closer.join()
    monitor.close()


def test_a_closed_monitor_says_so() -> None:
    ours, theirs = socket.socketpair()
    monitor = Monitor(ours)
    monitor.close()
    monitor.close()
    with pytest.raises(MonitorGone, match="closed"):
        monitor.execute("query-status")
    theirs.close()


def test_nothing_of_it_reaches_standard_error() -> None:
    """The library's log has no place to go but the user's terminal, if nobody takes it."""
    program = """
import socket
from harness.target.qmp import Monitor, MonitorGone
ours, theirs = socket.socketpair()
theirs.close()
monitor = Monitor(ours)
try:
    monitor.execute("query-status")
except MonitorGone:
    print("gone")
monitor.close()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("gone\n", "")


def test_the_listener_has_no_name_and_shows_who_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Longer than a socket's path may be (108 bytes, unix(7)).
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    listen = "import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); s.listen(); sys.stdin.read()"
    with nameless_listener() as (listener, path):
        assert list(long.iterdir()) == []
        assert len(path) < 40
        with pytest.raises(ConnectionRefusedError):
            _peer(path)
        child = subprocess.Popen(
            [sys.executable, "-c", listen, str(listener.fileno())],
            pass_fds=[listener.fileno()],
            stdin=subprocess.PIPE,
        )
        listener.close()
        assert child.stdin is not None
        try:
            deadline = Deadline.after(60)
            while (peer := _peer_or_none(path)) is None and not deadline.expired:
                time.sleep(0.02)
            assert peer == child.pid != os.getpid()
        finally:
            child.stdin.close()
            child.wait()
        with pytest.raises(ConnectionRefusedError):
            _peer(path)
    with pytest.raises(FileNotFoundError):
        _peer(path)


def _peer(path: str) -> int:
    """The process that listens there, as SO_PEERCRED has it (struct ucred: pid, uid, gid)."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        pid, _, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return int(pid)


def _peer_or_none(path: str) -> int | None:
    try:
        return _peer(path)
    except ConnectionRefusedError:
        return None


def test_no_place_for_a_memory_image(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    monitor = Monitor(ours)
    (tmp_path / "file").touch()
    try:
        with pytest.raises(InfraError, match=r"cannot write .*core\.zst: Not a directory"):
            save_core(monitor, tmp_path / "file" / "core.zst", Deadline.after(60))
    finally:
        monitor.close()
        theirs.close()


def test_an_image_of_a_dead_guest_leaves_no_file(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    monitor = Monitor(ours)
    with pytest.raises(MonitorGone):
        save_core(monitor, tmp_path / "core.zst", Deadline.after(60))
    assert list(tmp_path.iterdir()) == []
    monitor.close()
