# SPDX-License-Identifier: GPL-2.0-only
"""Where the folders are that are no Python: `kmod`, `patches`, `qemu`."""

from __future__ import annotations

from pathlib import Path

from harness.errors import InfraError

_PACKAGE = Path(__file__).resolve().parent


def asset(*parts: str) -> Path:
    """The path of a shipped file or folder: in an installed package, or in the checkout."""
    for base in (_PACKAGE / "_assets", _PACKAGE.parent):
        path = base.joinpath(*parts)
        if path.exists():
            return path
    raise InfraError(f"{'/'.join(parts)} is missing from the installation", hint="install hmm-harness again")
