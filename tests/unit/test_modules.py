# SPDX-License-Identifier: GPL-2.0-only
"""The order in which a guest without modprobe loads a driver's modules."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UserError
from harness.kernel.modules import load_order

#: As modpost writes them: dashes of file names are underscores there.
NEEDS = {
    "drm/xe": "drm_gpusvm_helper,ttm,drm",
    "drm/drm_gpusvm_helper": "drm",
    "drm/ttm": "drm",
    "drm/drm": "",
    "vfio/vfio-pci": "vfio_pci_core",
    "vfio/vfio-pci-core": "",
    "broken": "gone",
}


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    for name, needs in NEEDS.items():
        path = tmp_path / "lib/modules/7.3.4" / f"{name}.ko"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x7fELF...license=GPL\0depends=" + needs.encode() + b"\0name=x\0")
    return tmp_path


def test_each_module_comes_after_what_it_depends_on_and_once(modules: Path) -> None:
    assert [path.stem for path in load_order(modules, "xe")] == ["drm", "drm_gpusvm_helper", "ttm", "xe"]
    assert [path.stem for path in load_order(modules, "vfio_pci")] == ["vfio-pci-core", "vfio-pci"]


def test_a_module_that_was_not_built_is_said(modules: Path) -> None:
    with pytest.raises(UserError, match=r"the kernel has no module i915\.ko"):
        load_order(modules, "i915")
    with pytest.raises(UserError, match=r"the kernel has no module gone\.ko"):
        load_order(modules, "broken")
