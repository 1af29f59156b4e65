# SPDX-License-Identifier: GPL-2.0-only
"""PCI devices of a machine as its sysfs has them (Documentation/ABI/testing/sysfs-bus-pci), and its GPUs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from harness.doctor import Finding
from harness.gpu.sysfs import Files

DEVICES = "/sys/bus/pci/devices"
INTEL = 0x8086
#: Classes of PCI devices (include/linux/pci_ids.h): the upper byte of three.
_DISPLAY = 0x03
_BRIDGE = 0x06

#: What `gpu:` of a target may ask for: the driver that must have the GPU.
Gpu = Literal["xe"]


@dataclass(frozen=True)
class PciDevice:
    """One function of a device. `cls`: base class, subclass and interface, a byte each, as sysfs has them."""

    address: str
    vendor: int
    device: int
    cls: int
    #: Empty: nothing drives it.
    driver: str = ""
    #: None: no IOMMU translates for it.
    iommu_group: int | None = None

    @property
    def ident(self) -> str:
        """Vendor and device, as lspci -n and `xe.force_probe` write them."""
        return f"{self.vendor:04x}:{self.device:04x}"

    @property
    def is_gpu(self) -> bool:
        """Whether it is a display controller: VGA, 3D or other."""
        return self.cls >> 16 == _DISPLAY

    @property
    def is_bridge(self) -> bool:
        """Whether it is a bridge: what a guest cannot have, and what may stay in the group of a device."""
        return self.cls >> 16 == _BRIDGE

    def __str__(self) -> str:
        return f"{self.address} [{self.ident}] ({self.driver or 'no driver'})"


def pci_devices(files: Files) -> tuple[PciDevice, ...]:
    """All PCI functions of a machine, by address. One that vanishes while it is read is left out."""
    found = (pci_device(files, address) for address in files.names(DEVICES))
    return tuple(device for device in found if device)


def pci_device(files: Files, address: str) -> PciDevice | None:
    """The function at an address, as in 0000:03:00.0; None: there is none."""
    folder = f"{DEVICES}/{address}"
    numbers = [_number(files.text(f"{folder}/{name}"), 16) for name in ("vendor", "device", "class")]
    vendor, device, cls = numbers
    if vendor is None or device is None or cls is None:
        return None
    return PciDevice(
        address=address,
        vendor=vendor,
        device=device,
        cls=cls,
        driver=files.link(f"{folder}/driver") or "",
        iommu_group=_number(files.link(f"{folder}/iommu_group"), 10),
    )


def _number(text: str | None, base: int) -> int | None:
    with contextlib.suppress(ValueError, TypeError):
        return int(text or "", base)
    return None


def gpu_finding(devices: Sequence[PciDevice], wanted: Gpu | None) -> Finding:
    """Whether a machine has a GPU under the wanted driver; every GPU there is, by PCI id and driver.

    Nothing that is needed for a run: without one, what tests it is skipped.
    """
    gpus = [device for device in devices if device.is_gpu]
    listed = ", ".join(map(str, gpus)) or "none on the PCI bus"
    if wanted is None or any(gpu.driver == wanted for gpu in gpus):
        return Finding("GPU", True, listed, needed=False)
    detail = f"{listed}; none that {wanted} drives, so its tests will be skipped"
    return Finding("GPU", False, detail, _mend(gpus, wanted), needed=False)


def _mend(gpus: Sequence[PciDevice], wanted: Gpu) -> str:
    intel = next((gpu for gpu in gpus if gpu.vendor == INTEL), None)
    if intel is None:
        return "put an Intel GPU into it"
    number = f"{intel.device:04x}"
    match intel.driver:
        case "":
            return (
                f"modprobe {wanted}; `dmesg` says what is wrong (firmware?); a GPU it does not know yet: "
                f"{wanted}.force_probe={number}"
            )
        case "vfio-pci":
            return f"it is set aside for a guest: give it back to {wanted}"
        case other:
            return f"boot with {other}.force_probe=!{number} {wanted}.force_probe={number}"
