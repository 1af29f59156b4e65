# SPDX-License-Identifier: GPL-2.0-only
"""`hmm-harness classify`: 0 if nothing is found in any file, else 1."""

from __future__ import annotations

import argparse
import json
import sys

from harness.display import Display
from harness.errors import UserError
from harness.watch.classify import classify_file


def main(arguments: argparse.Namespace, display: Display) -> int:
    """Carry the verb out; its exit status."""
    found = unreadable = False
    for path in arguments.files:
        try:
            result = classify_file(path)
        except UserError as error:
            unreadable = True
            print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
            continue
        found = found or result.found
        if arguments.json:
            print(json.dumps(result.as_json()))
            continue
        lines = [f"{path}: {result.outcome}: {result.title}"]
        for event in result.events:
            time = "" if event.time_s is None else f" [{event.time_s:.6f}]"
            lines.append(f"  line {event.line}{time} {event.cls}: {event.title}")
        display.result(*lines)
    return UserError.exit_code if unreadable else 1 if found else 0
