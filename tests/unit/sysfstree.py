# SPDX-License-Identifier: GPL-2.0-only
"""Synthetic: a sysfs made of files, and what the kernel does when its attributes are written.

No Xe and no IOMMU was asked how it looks. What attributes do when they are written is as the real kernel of
`ci/nightly/xe.py` does it.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from pathlib import Path

from harness.gpu.pci import DEVICES
from harness.gpu.sysfs import LocalFiles

DRIVERS = "/sys/bus/pci/drivers"
GPU = "0000:03:00.0"
SOUND = "0000:04:00.0"
PORT = "0000:02:01.0"


@dataclass(frozen=True)
class FakeKernel(LocalFiles):
    """`writes`: what was written, in order. `refuses`: what gives EBUSY. `denied`: what only root may."""

    writes: list[tuple[str, str]] = field(default_factory=list)
    refuses: set[str] = field(default_factory=set)
    denied: set[str] = field(default_factory=set)

    def write(self, path: str, value: str) -> None:
        self.writes.append((path, value))
        if path in self.refuses:
            raise OSError(errno.EBUSY, "Device or resource busy")
        folder, _, name = path.rpartition("/")
        device = self.at(f"{DEVICES}/{value.strip()}")
        match name:
            case "driver_override":
                self.at(path).write_text(value.strip() or "(null)")
            case "unbind":
                (device / "driver").unlink()
            case "bind":
                override = (device / "driver_override").read_text().strip()
                if override not in ("(null)", folder.rpartition("/")[2]):
                    raise OSError(errno.ENODEV, "No such device")
                (device / "driver").symlink_to(self.at(folder))

    def usable(self, path: str) -> bool:
        return path not in self.denied and super().usable(path)


def add(
    machine: LocalFiles, address: str, ident: str, cls: int, driver: str = "", group: int | None = None
) -> None:
    """A device of a machine: `ident` is vendor:device in hexadecimal."""
    folder = machine.at(f"{DEVICES}/{address}")
    folder.mkdir(parents=True)
    vendor, _, device = ident.partition(":")
    for name, value in (("vendor", f"0x{vendor}"), ("device", f"0x{device}"), ("class", f"0x{cls:06x}")):
        (folder / name).write_text(f"{value}\n")
    (folder / "driver_override").write_text("(null)\n")
    if driver:
        home = machine.at(f"{DRIVERS}/{driver}")
        home.mkdir(parents=True, exist_ok=True)
        (home / "bind").touch()
        (folder / "driver").symlink_to(home)
    if group is not None:
        members = machine.at(f"/sys/kernel/iommu_groups/{group}/devices")
        members.mkdir(parents=True, exist_ok=True)
        (members / address).symlink_to(folder)
        (folder / "iommu_group").symlink_to(members.parent)


def battlemage(root: Path, *, driver: str = "xe") -> FakeKernel:
    """A machine with a B580, its sound device in a group of its own, and VFIO loaded."""
    machine = FakeKernel(root)
    add(machine, "0000:00:02.0", "8086:4680", 0x030000, "i915", 0)
    add(machine, PORT, "8086:e2f0", 0x060400, "pcieport", 17)
    add(machine, GPU, "8086:e20b", 0x030000, driver, 17)
    add(machine, SOUND, "8086:e2f7", 0x040300, "snd_hda_intel", 18)
    home = machine.at(f"{DRIVERS}/vfio-pci")
    home.mkdir(parents=True, exist_ok=True)
    (home / "bind").touch()
    node = machine.at("/dev/vfio/vfio")
    node.parent.mkdir(parents=True)
    node.touch()
    return machine
