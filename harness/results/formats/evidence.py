# SPDX-License-Identifier: GPL-2.0-only
"""The words about one trial that all formats share."""

from __future__ import annotations

from harness.plain import plain
from harness.results.runfolder import TrialResult


def evidence_text(result: TrialResult) -> str:
    """The cycle, the signature, what was measured and the splat, as lines; empty if there is none of it."""
    lines = [*result.cycle]
    if result.signature:
        lines.append(f"signature: {result.signature}")
    lines += [f"{name}: {value:g}" for name, value in result.metrics.items()]
    return plain("\n".join([*lines, *result.splat]))


def trial_title(result: TrialResult) -> str:
    """`livelock (the bug): livelock: a -> b`, one line."""
    bug = " (the bug)" if result.is_bug else ""
    title = " ".join(result.title.split()).removeprefix(f"{result.kind}: ")
    return plain(f"{result.kind}{bug}: {title}")
