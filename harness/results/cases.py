# SPDX-License-Identifier: GPL-2.0-only
"""The cases of a trial whose program is a suite of tests, read back from `tests.json`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from pydantic import TypeAdapter, ValidationError

from harness.experiment.trial import TESTS
from harness.plain import plain
from harness.results.reading import TrialRecord
from harness.watch.ktap import Case, Report

_REPORT = TypeAdapter(Report)
#: A record of cases that is larger is none of ours, bytes.
_LIMIT = 64 << 20


def trial_cases(trial: TrialRecord) -> tuple[Case, ...]:
    """The cases in order, those within others by their whole name; none of a trial that has no such record.

    A record that cannot be read is no record: the trial's own outcome stands.
    """
    path = trial.folder / TESTS
    try:
        if path.stat().st_size > _LIMIT:
            return ()
        report = _REPORT.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return ()
    return tuple(_flat(report.cases, ""))


def _flat(cases: Iterable[Case], before: str) -> Iterator[Case]:
    for case in cases:
        name = f"{before}{plain(case.name) or case.number}"
        if case.cases:
            yield from _flat(case.cases, f"{name}.")
        else:
            yield replace(case, name=name)


def case_text(case: Case) -> str:
    """The reason and what the case said, as lines."""
    return plain("\n".join(filter(None, [case.reason, *case.output])))
