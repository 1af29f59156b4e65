# SPDX-License-Identifier: GPL-2.0-only
"""What a run's folder holds, checked against the shipped JSON Schema files."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from harness.experiment.trial import TESTS
from harness.results.runfolder import RECORD
from harness.results.schemas import file_of

#: The files of a trial's folder whose lines have a schema.
LINES = {
    "agent.jsonl": "agent-line",
    "samples.jsonl": "sample-line",
    "examinations.jsonl": "examination-line",
    "box.jsonl": "step-line",
}


@cache
def validator(name: str) -> Any:
    """Of the schema of that name; a key that it does not describe is a defect here."""
    return Draft202012Validator(closed(json.loads(file_of(name).read_text())))


def closed(node: Any) -> Any:
    """The schema with no properties but those described."""
    if isinstance(node, list):
        return [closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    is_open = "properties" in node and "additionalProperties" not in node
    return {key: closed(item) for key, item in node.items()} | (
        {"additionalProperties": False} if is_open else {}
    )


def defects(name: str, value: Any) -> list[str]:
    """What is wrong with a value; of one that could be of several kinds, why it is of none."""
    found: list[str] = []
    for error in validator(name).iter_errors(value):
        reasons = [error.message, *(reason.message for reason in error.context)]
        found.append(f"{error.json_path}: " + "; ".join(reason[-300:] for reason in reasons))
    return found


def folder_defects(run: Path) -> list[str]:
    """What is wrong with the files of a run's folder."""
    found = _file(run / RECORD, "run")
    for trial in sorted(run.glob("trials/*/")):
        found += _file(trial / RECORD, "trial")
        if (trial / TESTS).is_file():
            found += _file(trial / TESTS, "tests")
        for name, schema in LINES.items():
            for line in (trial / name).read_text().splitlines() if (trial / name).is_file() else ():
                found += [f"{trial.name}/{name}: {defect}" for defect in defects(schema, json.loads(line))]
    return found


def _file(path: Path, schema: str) -> list[str]:
    record = json.loads(path.read_text())
    return [f"{path.parent.name}/{path.name}: {defect}" for defect in defects(schema, record)]
