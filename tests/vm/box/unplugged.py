# SPDX-License-Identifier: GPL-2.0-only
"""The box off the network for a while."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from .box import Box

#: What GRUB says as it starts a kernel.
BOOTING = "Booting `"


@contextlib.contextmanager
def unplugged(box: Box, once: str = "") -> Iterator[None]:
    """Off the network from when the console says `once` (at once if that is empty) until GRUB's next boot."""
    over = threading.Event()

    def wait_for(what: str, times: int) -> None:
        while box.console.count(what) == times and not over.wait(0.2):
            pass

    def watch() -> None:
        if once:
            wait_for(once, said)
        booted = box.console.count(BOOTING)
        box.tell("pull", "ssh")
        wait_for(BOOTING, booted)
        box.tell("plug", "ssh")

    said = box.console.count(once)
    if not once:
        box.tell("pull", "ssh")
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
