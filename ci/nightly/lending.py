# SPDX-License-Identifier: GPL-2.0-only
"""Runs in a guest with an IOMMU: lends its network card by VFIO in every way that a trial may end.

What it sees goes to standard output, a JSON object a line, as init's and the stressor's messages do.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path

from harness.cache import Cache
from harness.errors import HarnessError
from harness.gpu.pci import DEVICES, pci_devices
from harness.gpu.sysfs import LocalFiles
from harness.gpu.vfio import lent, preflight

#: include/uapi/linux/vfio.h: _IO(';', 100 + 3), and its VFIO_GROUP_FLAGS_VIABLE.
GROUP_GET_STATUS, VIABLE = 0x3B67, 1
MEMORY_MB = 512
FILES = LocalFiles()
CACHE = Cache(Path("/tmp/cache"))


def tell(step: str, **what: object) -> None:
    """One message."""
    print(json.dumps({"type": "lending", "step": step, **what}), flush=True)


def viable(group: int) -> bool:
    """Whether VFIO would give the whole group to a guest."""
    with open(f"/dev/vfio/{group}", "r+b", buffering=0) as node:
        status = bytearray(struct.pack("II", 8, 0))
        fcntl.ioctl(node, GROUP_GET_STATUS, status)
    return bool(struct.unpack("II", status)[1] & VIABLE)


def interface(address: str) -> list[str]:
    """The network interfaces that the device's driver has made."""
    return FILES.names(f"{DEVICES}/{address}/net")


def one(step: str, address: str, within: Callable[[], None]) -> None:
    """Lend the device, and see who has it within and after."""
    seen: dict[str, object] = {}
    ended = "left"
    try:
        with lent(FILES, address, MEMORY_MB, CACHE) as device:
            seen = {
                "within": FILES.link(f"{DEVICES}/{address}/driver"),
                "viable": viable(device.iommu_group or 0),
                "interfaces": interface(address),
            }
            within()
    except (HarnessError, KeyboardInterrupt) as error:
        ended = type(error).__name__
    after = FILES.link(f"{DEVICES}/{address}/driver")
    tell(step, ended=ended, after=after, back=interface(address), **seen)


def fail() -> None:
    """As a guest that dies does."""
    raise HarnessError("the guest died")


def interrupt() -> None:
    """As Ctrl-C does."""
    os.kill(os.getpid(), signal.SIGINT)


def killed(address: str) -> None:
    """A harness that is killed leaves the device bound; the next one gives it back."""
    child = os.fork()
    if not child:
        with lent(FILES, address, MEMORY_MB, CACHE):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    tell("killed", after=FILES.link(f"{DEVICES}/{address}/driver"))
    one("the next one", address, lambda: None)


def main() -> int:
    """Everything, on the one network card that there is."""
    for device in pci_devices(FILES):
        tell("device", text=str(device), group=device.iommu_group)
    card = next(device for device in pci_devices(FILES) if device.driver == "e1000")
    preflight(FILES, card.address, MEMORY_MB)
    one("as usual", card.address, lambda: None)
    one("a failure", card.address, fail)
    one("Ctrl-C", card.address, interrupt)
    killed(card.address)
    return 0


if __name__ == "__main__":
    sys.exit(main())
