# SPDX-License-Identifier: GPL-2.0-only
"""The JSON Schema files of a run's folder, generated from the models: `python -m harness.results.schemas`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.results.records import DOCUMENTS

FOLDER = Path(__file__).resolve().parent
DRAFT = "https://json-schema.org/draft/2020-12/schema"


def file_of(name: str) -> Path:
    """Where the schema of that name is."""
    return FOLDER / f"{name}.schema.json"


def generated(name: str) -> str:
    """The schema as its model has it."""
    document = {"$schema": DRAFT, **_plain(DOCUMENTS[name].json_schema(by_alias=True))}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _plain(node: Any) -> Any:
    """Without titles, which only repeat the keys."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {key: _plain(item) for key, item in node.items() if key != "title" or isinstance(item, dict)}
