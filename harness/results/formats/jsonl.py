# SPDX-License-Identifier: GPL-2.0-only
"""JSON lines: the run; then of each trial its record and, in order, everything that was observed of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from harness.errors import UserError
from harness.results.formats.options import Options
from harness.results.observed import trial_observations
from harness.results.reading import RunRecord, TrialRecord
from harness.watch.observation import AgentMessage, Observation


def jsonl(run: RunRecord, options: Options) -> str:
    """A line an object, each with its `kind`; observations have `trial` and `host_s`, s since power-on."""
    rows: list[dict[str, Any]] = [{"kind": "run", "folder": str(run.folder), **run.facts}]
    for trial in run.trials:
        rows.append({"kind": "trial", "folder": str(trial.folder), **trial.facts})
        rows += _observed(trial)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _observed(trial: TrialRecord) -> Iterator[dict[str, Any]]:
    where = {"trial": f"trials/{trial.folder.name}", "arm": trial.arm, "index": trial.index}
    try:
        observations = trial_observations(trial)
    except UserError as error:
        yield {"kind": "missing", **where, "why": error.message}
        return
    for observation in observations:
        yield {"kind": _kind(observation), **where, **_fields(observation)}


def _kind(observation: Observation) -> str:
    """`ConsoleEvent` as `console_event`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(observation).__name__).lower()


def _fields(observation: Observation) -> dict[str, Any]:
    if isinstance(observation, AgentMessage):
        message = observation.message.model_dump(mode="json", by_alias=True)
        return {"host_s": observation.host_s, "message": message}
    fields = asdict(observation)
    # Its own kind is the class of event, as signatures.yaml has it.
    return {("event" if name == "kind" else name): value for name, value in fields.items()}
