# SPDX-License-Identifier: GPL-2.0-only
"""Ports for the servers of the tests."""

from __future__ import annotations

import socket


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of the loopback (TCP, or UDP with SOCK_DGRAM) that nobody uses now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
