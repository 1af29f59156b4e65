# SPDX-License-Identifier: GPL-2.0-only
"""What hatchling does beside packing files: the manual page is made, and installed where man finds it."""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManualHook(BuildHookInterface):  # type: ignore[type-arg]
    """share/man/man1/hmm-harness.1 of a wheel, editable or not."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Generate the page from the command line's grammar, which needs the standard library alone."""
        sys.path.insert(0, self.root)
        try:
            text = importlib.import_module("harness.manual").manual()
        finally:
            sys.path.remove(self.root)
        self._folder = tempfile.TemporaryDirectory(prefix="hmm-harness-manual-")
        page = Path(self._folder.name) / "hmm-harness.1"
        page.write_text(text, encoding="utf-8")
        build_data["shared_data"][str(page)] = "share/man/man1/hmm-harness.1"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The page is packed."""
        self._folder.cleanup()
