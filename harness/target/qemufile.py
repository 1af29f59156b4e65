# SPDX-License-Identifier: GPL-2.0-only
"""A target's file that is no box's: what guests in QEMU get of this machine."""

from __future__ import annotations

import contextlib
from pathlib import Path

import yaml

from harness.config import Frozen, QemuConfig
from harness.yamlfile import load_yaml


class _File(Frozen):
    qemu: QemuConfig


def load_qemu(path: Path) -> QemuConfig | None:
    """The `qemu:` of a target's file, its folder made absolute; None: the file has no such key.

    UserError with every defect of the file, by line.
    """
    with contextlib.suppress(OSError, UnicodeDecodeError, yaml.YAMLError):
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        if isinstance(data, dict) and "qemu" in data:
            found = load_yaml(path, _File).qemu
            if found.userland is None:
                return found
            return found.model_copy(
                update={"userland": str((path.resolve().parent / found.userland).resolve())}
            )
    return None
