# SPDX-License-Identifier: GPL-2.0-only
"""What a bisection has found out, on disk: whole lines only, and one harness at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.bisect.records import KERNELS, KernelFact, Records
from harness.errors import UserError
from harness.results.repeats import Repeats


def test_records_survive_a_line_that_was_cut_short(tmp_path: Path) -> None:
    Records(tmp_path).add_kernel(KernelFact("one", 1.5, False))
    with (tmp_path / KERNELS).open("a") as sink:
        sink.write('{"name": "tw')
    again = Records(tmp_path)
    assert list(again.kernels) == ["one"]
    again.add_kernel(KernelFact("two", 2.0, True))
    again.skip("two", "no use")
    assert Records(tmp_path).kernels == {
        "one": KernelFact("one", 1.5, False),
        "two": KernelFact("two", 2.0, True, "no use"),
    }


def test_a_repetition_takes_the_kernels_that_were_tested_then(tmp_path: Path) -> None:
    records = Records(tmp_path, Repeats(tmp_path / "before", "", {"one": "mark"}))
    records.check("one", "mark")
    records.check("never tested before", "any")
    with pytest.raises(UserError, match="one ran another kernel"):
        records.check("one", "another")
