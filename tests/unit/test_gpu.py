# SPDX-License-Identifier: GPL-2.0-only
"""GPUs of a machine, and one lent to a guest and given back; the machines are synthetic (sysfstree.py)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.cache import Cache
from harness.errors import InfraError, UserError
from harness.gpu.pci import DEVICES, PciDevice, gpu_finding, pci_devices
from harness.gpu.snapshot import LINKS, TEXTS, snapshot
from harness.gpu.sysfs import LocalFiles
from harness.gpu.vfio import lent, preflight
from tests.unit.sysfstree import DRIVERS, GPU, PORT, SOUND, FakeKernel, add, battlemage

OVERRIDE = f"{DEVICES}/{GPU}/driver_override"
BORROW = [(OVERRIDE, "vfio-pci"), (f"{DRIVERS}/xe/unbind", GPU), (f"{DRIVERS}/vfio-pci/bind", GPU)]
RETURN = [(OVERRIDE, "\n"), (f"{DRIVERS}/vfio-pci/unbind", GPU), (f"{DRIVERS}/xe/bind", GPU)]


def test_gpus_are_listed_by_pci_id_and_driver(tmp_path: Path) -> None:
    found = gpu_finding(pci_devices(battlemage(tmp_path)), "xe")
    assert found.ok
    assert found.detail == "0000:00:02.0 [8086:4680] (i915), 0000:03:00.0 [8086:e20b] (xe)"


def test_a_machine_without_such_a_gpu_is_well_but_has_nothing_to_test(tmp_path: Path) -> None:
    machine = LocalFiles(tmp_path)
    none = gpu_finding(pci_devices(machine), "xe")
    assert none.ok is False and not none.needed
    assert none.detail.startswith("none on the PCI bus") and "skipped" in none.detail
    add(machine, "0000:01:00.0", "10de:2684", 0x030000, "nouveau")
    assert "put an Intel GPU" in gpu_finding(pci_devices(machine), "xe").mend


@pytest.mark.parametrize(
    ("driver", "mend"),
    [
        ("i915", "boot with i915.force_probe=!e20b xe.force_probe=e20b"),
        ("", "xe.force_probe=e20b"),
        ("vfio-pci", "give it back"),
    ],
)
def test_a_gpu_that_another_has_comes_with_what_to_do(tmp_path: Path, driver: str, mend: str) -> None:
    add(LocalFiles(tmp_path), GPU, "8086:e20b", 0x038000, driver)
    found = gpu_finding(pci_devices(LocalFiles(tmp_path)), "xe")
    assert found.ok is False and mend in found.mend


def test_a_device_that_is_gone_while_it_is_read_is_left_out(tmp_path: Path) -> None:
    machine = battlemage(tmp_path)
    machine.at(f"{DEVICES}/{GPU}/class").unlink()
    assert GPU not in [device.address for device in pci_devices(machine)]


def test_preflight_takes_a_gpu_behind_a_bridge_of_its_group(tmp_path: Path) -> None:
    device = preflight(battlemage(tmp_path), GPU, 4096)
    assert (device.driver, device.iommu_group) == ("xe", 17)


def test_preflight_names_all_that_is_in_the_way(tmp_path: Path) -> None:
    machine = battlemage(tmp_path)
    members = machine.at("/sys/kernel/iommu_groups/17/devices")
    (members / SOUND).symlink_to(machine.at(f"{DEVICES}/{SOUND}"))
    (machine.at(f"{DRIVERS}/vfio-pci") / "bind").unlink()
    machine.at("/dev/vfio/vfio").unlink()
    machine.denied.add(OVERRIDE)
    with pytest.raises(UserError) as error:
        preflight(machine, GPU, 4096)
    lines = error.value.message.splitlines()[1:]
    assert [line.strip().split(":")[0] for line in lines[1:]] == [
        "the driver vfio-pci is not loaded",
        "only root can take it from its driver",
        "/dev/vfio/vfio cannot be opened",
    ]
    assert lines[0].strip() == (
        f"{SOUND} [8086:e2f7] (snd_hda_intel) is in its IOMMU group, 17: "
        f"echo {SOUND} > {DRIVERS}/snd_hda_intel/unbind"
    )


def test_preflight_without_iommu_without_device_and_of_a_bridge(tmp_path: Path) -> None:
    machine = battlemage(tmp_path)
    machine.at(f"{DEVICES}/{GPU}/iommu_group").unlink()
    with pytest.raises(UserError, match=r"no IOMMU translates for it.*intel_iommu=on"):
        preflight(machine, GPU, 4096)
    with pytest.raises(UserError, match="it is a bridge"):
        preflight(machine, PORT, 4096)
    with pytest.raises(UserError, match=r"no PCI device 0000:09:00\.0") as error:
        preflight(machine, "0000:09:00.0", 4096)
    assert GPU in error.value.hint


def test_a_device_is_lent_and_given_back_to_the_driver_it_had(tmp_path: Path) -> None:
    machine, cache = battlemage(tmp_path / "machine"), Cache(tmp_path / "cache")
    with lent(machine, GPU, 4096, cache):
        assert machine.link(f"{DEVICES}/{GPU}/driver") == "vfio-pci"
        assert machine.writes == BORROW
    assert machine.writes == [*BORROW, *RETURN]
    assert machine.link(f"{DEVICES}/{GPU}/driver") == "xe"
    assert not list((tmp_path / "cache" / "vfio").iterdir())


@pytest.mark.parametrize("what", [KeyboardInterrupt(), InfraError("the guest died")])
def test_it_is_given_back_however_the_trial_ends(tmp_path: Path, what: BaseException) -> None:
    machine, cache = battlemage(tmp_path / "machine"), Cache(tmp_path / "cache")
    with pytest.raises(type(what)), lent(machine, GPU, 4096, cache):
        raise what
    assert machine.link(f"{DEVICES}/{GPU}/driver") == "xe"


def test_it_is_given_back_if_vfio_refuses_it(tmp_path: Path) -> None:
    machine, cache = battlemage(tmp_path / "machine"), Cache(tmp_path / "cache")
    machine.refuses.add(f"{DRIVERS}/vfio-pci/bind")
    with pytest.raises(InfraError, match="Device or resource busy") as error, lent(machine, GPU, 4096, cache):
        raise AssertionError("not reached")
    assert "by hand: " in error.value.hint
    assert machine.link(f"{DEVICES}/{GPU}/driver") == "xe"
    assert machine.text(OVERRIDE) == "(null)"


def test_what_a_killed_harness_left_bound_goes_back_to_who_had_it(tmp_path: Path) -> None:
    machine, cache = battlemage(tmp_path / "machine"), Cache(tmp_path / "cache")
    for path, value in BORROW:
        machine.write(path, value)
    record = cache.folder("vfio") / f"{GPU}.json"
    record.write_text(json.dumps({"driver": "xe", "override": ""}))
    machine.at("/dev/vfio/17").touch()
    with lent(machine, GPU, 4096, cache):
        assert machine.writes == BORROW  # nothing to do
    assert machine.writes == [*BORROW, *RETURN]
    assert not record.exists()


def test_what_was_set_aside_for_vfio_stays_there(tmp_path: Path) -> None:
    machine = battlemage(tmp_path / "machine", driver="vfio-pci")
    with pytest.raises(UserError, match="/dev/vfio/17 cannot be opened"):
        preflight(machine, GPU, 4096)
    machine.at("/dev/vfio/17").touch()
    machine.at(OVERRIDE).write_text("vfio-pci\n")
    with lent(machine, GPU, 4096, Cache(tmp_path / "cache")):
        pass
    assert machine.writes == []


def test_a_driver_that_does_not_come_back_is_said(tmp_path: Path) -> None:
    class Deaf(FakeKernel):
        def write(self, path: str, value: str) -> None:
            if path != f"{DRIVERS}/xe/bind":
                super().write(path, value)

    battlemage(tmp_path / "machine")
    machine, cache = Deaf(tmp_path / "machine"), Cache(tmp_path / "cache")
    with (
        pytest.raises(InfraError, match="should be with xe, and is with none"),
        lent(machine, GPU, 4096, cache),
    ):
        pass
    assert (tmp_path / "cache" / "vfio" / f"{GPU}.json").exists()


def test_two_commands_say_of_this_machine_what_its_files_say() -> None:
    """No synthetic one: find and grep on the real /sys, as on a box over SSH."""

    def run(argv: Sequence[str]) -> str:
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30).stdout

    assert pci_devices(snapshot(run)) == pci_devices(LocalFiles())


def test_a_snapshot_has_group_and_driver_of_a_gpu() -> None:
    """Synthetic: as find and grep print it for a GPU."""
    said = {
        TEXTS: f"{DEVICES}/{GPU}/class:0x030000\n"
        f"{DEVICES}/{GPU}/vendor:0x8086\n{DEVICES}/{GPU}/device:0xe20b\n",
        LINKS: f"{DEVICES}/{GPU}/driver ../../../../../../bus/pci/drivers/xe\n"
        f"{DEVICES}/{GPU}/iommu_group ../../../../../../kernel/iommu_groups/17\n",
    }
    assert pci_devices(snapshot(lambda argv: said[tuple(argv)])) == (
        PciDevice(GPU, 0x8086, 0xE20B, 0x030000, "xe", 17),
    )
