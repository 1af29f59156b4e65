# SPDX-License-Identifier: GPL-2.0-only
"""`hmm-harness doctor`: 0 if nothing that is needed is missing, of this machine or of a box, else 3."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from harness.cache import Cache
from harness.display import Display
from harness.doctor import Finding, as_json, findings, healthy
from harness.errors import HarnessError, InfraError, UserError
from harness.gpu.pci import gpu_finding, pci_devices
from harness.gpu.sysfs import LocalFiles
from harness.gpu.vfio import preflight
from harness.results.database import opened
from harness.target.accel import known_answer
from harness.target.box.config import BoxConfig, load_box
from harness.target.box.console import ConsoleClosed
from harness.target.box.opened import held_box
from harness.target.box.preflight import examine
from harness.target.machine import pick_machine
from harness.target.qemufile import load_qemu


def main(arguments: argparse.Namespace, display: Display) -> int:
    """Carry the verb out; its exit status."""
    cache = Cache(arguments.cache.resolve())
    qemu = load_qemu(arguments.target) if arguments.target else None
    if qemu:
        found = [_gpu(), *([_lendable(qemu.vfio)] if qemu.vfio else [])]
    elif arguments.target:
        found = _box(load_box(arguments.target))
    else:
        found = findings(cache, arguments.out.resolve(), lambda: _kvm(cache), lambda: _store(arguments.store))
    display.close()
    if arguments.json:
        print(json.dumps(as_json(found)))
    else:
        display.result(*map(_line, found))
    return 0 if healthy(found) else 3


def _line(finding: Finding) -> str:
    mark = {True: "ok", False: "MISSING" if finding.needed else "absent", None: "unknown"}[finding.ok]
    mend = f"  -> {finding.mend}" if finding.ok is not True and finding.mend else ""
    return f"{mark:7} {finding.what}: {finding.detail}{mend}"


def _box(config: BoxConfig) -> list[Finding]:
    try:
        with held_box(config) as box:
            return list(examine(box))
    except ConsoleClosed as error:
        with held_box(config.model_copy(update={"console": None})) as box:
            others = [finding for finding in examine(box) if finding.what != "console"]
        return [*others, Finding("console", False, error.message, error.hint)]


def _gpu() -> Finding:
    return gpu_finding(pci_devices(LocalFiles()), None)


def _lendable(address: str) -> Finding:
    try:
        device = preflight(LocalFiles(), address, 0)
    except UserError as error:
        return Finding(f"{address} for a guest", False, error.message, error.hint)
    return Finding(f"{address} for a guest", True, f"{device}, IOMMU group {device.iommu_group}")


def _store(path: Path) -> Finding:
    if not path.exists():
        return Finding(
            "store", None, f"{path}: not there yet", "the first run that ends makes it", needed=False
        )
    try:
        with opened(path) as connection:
            (count,) = connection.execute("SELECT count(*) FROM runs").fetchone()
    except HarnessError as error:
        return Finding("store", False, error.message, error.hint, needed=False)
    return Finding("store", True, f"{path}: {count} runs", needed=False)


def _kvm(cache: Cache) -> Finding:
    try:
        answer = known_answer(cache, pick_machine("auto"))
    except InfraError as error:
        return Finding("KVM", None, error.message, error.hint, needed=False)
    if answer is None:
        detail = "no guest has been booted on it yet; a /dev/kvm that opens proves nothing"
        return Finding("KVM", None, detail, "hmm-harness run --kernel base tries it", needed=False)
    return Finding("KVM", answer.works, answer.why, "not needed: TCG serves, slower", needed=False)
