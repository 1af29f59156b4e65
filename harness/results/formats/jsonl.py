# SPDX-License-Identifier: GPL-2.0-only
"""JSON lines: the run on the first line, then a line for each of its trials."""

from __future__ import annotations

import json

from harness.results.reading import RunRecord


def jsonl(run: RunRecord) -> str:
    """The records as they are in the folder, each with its `kind` and `folder`."""
    rows = [{"kind": "run", "folder": str(run.folder), **run.facts}]
    rows += [{"kind": "trial", "folder": str(trial.folder), **trial.facts} for trial in run.trials]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
