# SPDX-License-Identifier: GPL-2.0-only
"""The command that finds the commit which brought a regression."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from harness.config import GitTree
from harness.nightly.model import QEMU, NightTree
from harness.results.night import Finding, NightCell
from harness.results.runfolder import EXPERIMENT


def bisection(
    finding: Finding, cell: NightCell, tree: NightTree, target: str, places: Sequence[str]
) -> tuple[list[str], str]:
    """The arguments of the program, or none and why.

    target: of the night. places: where the command reads and writes, as words. The
    kernel and the guest are those of the night, taken from the folder of its matrix.
    """
    if finding.no_bisect:
        return [], finding.no_bisect
    if target != QEMU:
        return [], "bisect runs in QEMU, and this was seen on a box"
    if isinstance(tree.tree, GitTree):
        url, good, bad = tree.tree.url, finding.good, finding.bad
    elif tree.history:
        url, good, bad = tree.history, _tag(finding.good), _tag(finding.bad)
        if good == bad:
            return [], f"between {finding.good} and {finding.bad} only the package has changed"
    else:
        return [], f"{cell.source} has no history; `history` of the night's file may name a repository"
    words = ["bisect", "--tree", f"git:{url}", "--good", good, "--bad", bad]
    words += ["--experiment", str(Path(cell.run) / EXPERIMENT), "--kernel", cell.kernel]
    words += ["--scenario", cell.scenario]
    words += [word for name, value in cell.set.items() for word in ("--set", f"{name}={value}")]
    words += ["--preempt", cell.preempt, "--cpus", str(cell.cpus), "--clock", cell.clock]
    return [*words, *places], ""


def _tag(version: str) -> str:
    """The release that a package is of: `v7.3.4` of 7.3.4-1~bpo13+1."""
    return f"v{re.split('[-~+]', version)[0]}"
