# SPDX-License-Identifier: GPL-2.0-only
"""A PCI device of this machine lent to a guest by VFIO: looked at, bound, and given back.

Documentation/driver-api/vfio.rst; the attributes are in Documentation/ABI/testing/sysfs-bus-pci.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from harness.cache import Cache
from harness.deadline import Deadline
from harness.disk import write_atomically
from harness.errors import InfraError, UserError
from harness.gpu.pci import DEVICES, PciDevice, pci_device, pci_devices
from harness.gpu.sysfs import LocalFiles
from harness.interrupts import interrupts_deferred

DRIVER = "vfio-pci"
_DRIVERS = "/sys/bus/pci/drivers"
_GROUPS = "/sys/kernel/iommu_groups"
_CONTAINER = "/dev/vfio/vfio"
#: How the attribute `driver_override` says that there is none.
_NONE = ("(null)", "")
#: Another harness may hold the device so long, s.
_LOCK_S = 10.0


@dataclass(frozen=True)
class Owner:
    """Who had a device: its driver, and the one it was reserved for; empty: nobody."""

    driver: str
    override: str


def preflight(files: LocalFiles, address: str, memory_mb: int) -> PciDevice:
    """The device at an address, if a guest with so much memory can have it.

    UserError with everything that is in the way, and how to mend each.
    """
    device = pci_device(files, address)
    if device is None:
        gpus = ", ".join(str(found) for found in pci_devices(files) if found.is_gpu)
        raise UserError(f"there is no PCI device {address}", hint=f"GPUs here: {gpus or 'none'}")
    defects = [*_in_group(files, device), *_driver(files, device), *_permissions(files, device, memory_mb)]
    if device.is_bridge:
        defects.insert(0, "it is a bridge: name the device behind it")
    if defects:
        raise UserError(
            f"{device} cannot be given to a guest:\n" + "\n".join(f"  {defect}" for defect in defects),
            hint="each line says what to do about it",
        )
    return device


def _in_group(files: LocalFiles, device: PciDevice) -> Iterator[str]:
    """What speaks against the IOMMU group: the kernel gives all of it to the guest, or nothing."""
    if device.iommu_group is None:
        yield (
            "no IOMMU translates for it: switch VT-d on in the firmware, "
            "and boot with intel_iommu=on (amd_iommu=on)"
        )
        return
    for address in files.names(f"{_GROUPS}/{device.iommu_group}/devices"):
        other = pci_device(files, address)
        if other is None or address == device.address or other.is_bridge:
            continue
        if other.driver not in ("", DRIVER):
            yield (
                f"{other} is in its IOMMU group, {device.iommu_group}: "
                f"echo {address} > {_DRIVERS}/{other.driver}/unbind"
            )


def _driver(files: LocalFiles, device: PciDevice) -> Iterator[str]:
    if not files.names(f"{_DRIVERS}/{DRIVER}"):
        yield f"the driver {DRIVER} is not loaded: modprobe {DRIVER}"
    if device.driver != DRIVER and not files.usable(f"{DEVICES}/{device.address}/driver_override"):
        yield f"only root can take it from its driver: run as root, or bind it to {DRIVER} before"


def _permissions(files: LocalFiles, device: PciDevice, memory_mb: int) -> Iterator[str]:
    wanted = [_CONTAINER]
    if device.driver == DRIVER:  # the group's own file appears with the driver
        wanted.append(f"/dev/vfio/{device.iommu_group}")
    for path in wanted:
        if not files.usable(path):
            yield f"{path} cannot be opened: modprobe vfio, or give this user access to it"
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if os.geteuid() != 0 and soft != resource.RLIM_INFINITY and soft < memory_mb << 20:
        yield f"the guest's {memory_mb} MB are locked into memory, the limit is {soft >> 20} MB: ulimit -l"


@contextlib.contextmanager
def lent(files: LocalFiles, address: str, memory_mb: int, cache: Cache) -> Iterator[PciDevice]:
    """The device bound to vfio-pci within the block, and as it was after it, however the block is left.

    Who had it is written down before anything is changed: after a harness that was killed, the next one
    gives it back to that driver. UserError as `preflight`; InfraError if the kernel refuses, with what to do.
    """
    with cache.lock(f"vfio-{address}", Deadline.after(_LOCK_S)):
        device = preflight(files, address, memory_mb)
        record = cache.folder("vfio") / f"{address}.json"
        owner = Owner(device.driver, _override(files, address))
        with contextlib.suppress(FileNotFoundError):
            owner = Owner(**json.loads(record.read_text(encoding="utf-8")))
        write_atomically(record, json.dumps(asdict(owner)).encode())
        try:
            _hand_over(files, address, Owner(DRIVER, DRIVER))
            yield device
        finally:
            with interrupts_deferred():  # a second Ctrl-C waits until the device is back
                _hand_over(files, address, owner)
                record.unlink()


def _override(files: LocalFiles, address: str) -> str:
    text = files.text(f"{DEVICES}/{address}/driver_override") or ""
    return "" if text in _NONE else text


def _hand_over(files: LocalFiles, address: str, owner: Owner) -> None:
    """Make `owner` the one who has the device. What is as it should be already is left alone."""
    folder = f"{DEVICES}/{address}"
    steps = []
    if _override(files, address) != owner.override:
        # An empty line takes the override away.
        steps.append((f"{folder}/driver_override", owner.override or "\n"))
    has = files.link(f"{folder}/driver") or ""
    if has != owner.driver:
        steps += [(f"{_DRIVERS}/{has}/unbind", address)] if has else []
        steps += [(f"{_DRIVERS}/{owner.driver}/bind", address)] if owner.driver else []
    commands = "; ".join(f"echo {value.strip()} > {path}" for path, value in steps)
    for path, value in steps:
        try:
            files.write(path, value)
        except OSError as error:
            raise InfraError(
                f"{address} cannot be given to {owner.driver or 'nobody'}: {path}: {error.strerror}",
                hint=f"by hand: {commands}",
            ) from error
    now = files.link(f"{folder}/driver") or ""
    if now != owner.driver:
        raise InfraError(
            f"{address} should be with {owner.driver or 'no driver'}, and is with {now or 'none'}",
            hint=f"by hand: {commands}; dmesg may say why",
        )
