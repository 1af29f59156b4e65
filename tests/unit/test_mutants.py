# SPDX-License-Identifier: GPL-2.0-only
"""The mistakes that the nightly builds into the module still have their places there."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from harness.assets import asset
from harness.errors import UserError

NIGHTLY = Path(__file__).resolve().parents[2] / "ci" / "nightly"


def test_every_mistake_has_its_place_in_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(NIGHTLY))
    mutants = importlib.import_module("mutants").load_mutants()
    assert len({mutant.name for mutant in mutants}) >= 8
    for mutant in mutants:
        with mutant.folder() as kmod:
            changed = (kmod / mutant.file).read_text()
            assert changed != asset("kmod", mutant.file).read_text()
            assert mutant.new in changed
    gone = mutants[0].model_copy(update={"old": "no such line"})
    with pytest.raises(UserError, match="0 times"), gone.folder():
        pass
