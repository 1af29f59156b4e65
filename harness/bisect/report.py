# SPDX-License-Identifier: GPL-2.0-only
"""A finished bisection as one JSON object, which its report is made from, and as a mail that reports it."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from harness.bisect.failure import Reading, read
from harness.bisect.gitlog import Verdict
from harness.bisect.model import BAD, GOOD, Place, Stop
from harness.bisect.records import Records
from harness.bisect.session import Conclusion, Setup
from harness.bisect.subject import Subject
from harness.layout import aligned
from harness.results.report import tested_row
from harness.results.runfolder import TrialResult, arm_of
from harness.results.schema import BisectResult, BootFacts, RevertedFacts, TestedKernel
from harness.results.text import evidence_lines

#: Columns of a mail, and of what is shown.
_MAIL = 72
_TERMINAL = 110


@dataclass(frozen=True)
class Bisection:
    """A finished bisection: everything its reports need."""

    folder: Path
    subject: Subject
    setup: Setup
    records: Records
    conclusion: Conclusion
    method: Literal["classic", "bayes"]
    #: Clean trials that make a kernel good; 0 if that was never found out.
    clean_trials: int
    seconds: float
    #: The command that does it again.
    reproduce: str

    def place(self, name: str) -> Place | None:
        """Where a kernel stands in the history; None for one that is no candidate and no end."""
        names = self.subject.history.names
        if name in names:
            return names.index(name)
        return next((place for place in (BAD, GOOD) if self.subject.name(place) == name), None)

    def trials(self, name: str) -> list[TrialResult]:
        """The trials of a kernel, in order."""
        return self.records.trials(arm_of(name))

    def label(self, name: str) -> str:
        """A kernel as tables name it."""
        place = self.place(name)
        return self.subject.label(place) if place is not None else "the bad end without the culprit's change"


def bisection_json(done: Bisection) -> dict[str, Any]:
    """The object that `bisect --json` prints; its keys are a promise."""
    end, names, subject = done.conclusion.end, done.subject.history.names, done.subject
    culprit, reverted, shown = done.conclusion.culprit, done.conclusion.reverted, _shown(done)
    suspects = () if isinstance(end, Stop) else end.suspects
    return BisectResult(
        culprit=None if culprit is None else names[culprit],
        suspects=tuple(names[place] for place in suspects),
        confidence=None if isinstance(end, Stop) else end.confidence,
        reason=end.reason if isinstance(end, Stop) else end.how,
        hint=end.hint if isinstance(end, Stop) else "",
        checked=done.conclusion.checked,
        checks="" if isinstance(end, Stop) else checks(done),
        reverted=RevertedFacts(**asdict(reverted)) if reverted else None,
        method=done.method,
        scenario=done.setup.experiment.scenario,
        set=dict(done.setup.experiment.set),
        boot=BootFacts.model_validate(done.setup.experiment.boot.model_dump(mode="json")),
        patches=done.setup.patches,
        bug=str(done.conclusion.bug) if done.conclusion.bug else None,
        good=subject.name(GOOD),
        bad=subject.name(BAD),
        labels={names[place]: subject.label(place) for place in suspects},
        shown=shown.folder if shown else "",
        tested=tuple(_tested(done, name) for name in done.records.kernels),
        builds=sum(not fact.cached for fact in done.records.kernels.values()),
        seconds=round(done.seconds, 1),
        evidence=str(done.folder),
        reproduce=done.reproduce,
    ).model_dump(mode="json", exclude={"git_bisect_log", "regression"})


def _tested(done: Bisection, name: str) -> TestedKernel:
    fact, trials = done.records.kernels[name], done.trials(name)
    return TestedKernel(
        commit=name,
        title=done.label(name),
        trials=len(trials),
        reproduced=_reproduced(done, name),
        verdict=_verdict(done, name),
        reason=fact.skip,
        build_s=fact.seconds,
        cached=fact.cached,
        evidence=tuple(result.folder for result in trials),
    )


def _reproduced(done: Bisection, name: str) -> int:
    readings = [read(result, done.conclusion.bug) for result in done.trials(name)]
    return readings.count(Reading.REPRODUCED)


def _verdict(done: Bisection, name: str) -> Verdict | Literal["open"]:
    """good, bad, skip, or open: not tried often enough to be called good."""
    if done.records.kernels[name].skip:
        return "skip"
    if _reproduced(done, name):
        return "bad"
    readings = [read(result, done.conclusion.bug) for result in done.trials(name)]
    return "good" if 0 < done.clean_trials <= readings.count(Reading.CLEAN) else "open"


def verdicts(done: Bisection) -> list[tuple[str, Verdict]]:
    """(name, verdict) of the candidates that were tested, but for the bad end, in that order.

    Once a culprit is named they are what follows from it: a false reproduction is a trial's, not a verdict.
    """
    history, culprit = done.subject.history, done.conclusion.culprit
    candidates = set(history.names) - {done.subject.name(BAD)}
    found: list[tuple[str, Verdict]] = []
    for name in done.records.kernels:
        verdict = _verdict(done, name)
        if name not in candidates or verdict == "open":
            continue
        if culprit is not None and verdict != "skip":
            has_it = history.ancestors[history.names.index(name)] >> culprit & 1
            verdict = "bad" if has_it else "good"
        found.append((name, verdict))
    return found


def checks(done: Bisection) -> str:
    """What was done to the culprit once it was named, as a sentence."""
    conclusion = done.conclusion
    if not conclusion.checked:
        return "checked: no, its own trials or those right before it do not bear it out"
    text = f"checked: the culprit fails, what is right before it does not in {done.clean_trials} trials"
    reverted = conclusion.reverted
    if reverted is None:
        return text
    if reverted.fails is None:
        return f"{text}; the newest without it was not tried: {reverted.reason}"
    verb = "still fails: there is another cause" if reverted.fails else "does not fail"
    return f"{text}; the newest without it {verb} ({reverted.trials} trials)"


def _shown(done: Bisection) -> TrialResult | None:
    """The failure that is shown: the culprit's own, else the bad end's."""
    culprit = done.conclusion.culprit
    names = [done.subject.history.names[culprit]] if culprit is not None else []
    for name in (*names, done.subject.name(BAD)):
        for result in done.trials(name):
            if read(result, done.conclusion.bug) is Reading.REPRODUCED:
                return result
    return None


def regression_text(done: Bisection, title: str) -> str:
    """A mail that reports the culprit: what fails, since when, how sure, how to repeat it.

    `title`: the commit's title. With the line that the regression tracker reads.
    """
    culprit = done.conclusion.culprit
    assert culprit is not None
    commit = done.subject.history.names[culprit]
    experiment, end = done.setup.experiment, done.conclusion.end
    boot = experiment.boot
    bad, good = (done.subject.label(place) for place in (BAD, GOOD))
    assert not isinstance(end, Stop)
    bug = done.conclusion.bug
    what = done.setup.scenario.title if bug and bug.own else str(bug)
    trials = done.trials(done.subject.name(BAD))
    shown = _shown(done)
    words = [
        f'Since commit {commit[:12]} ("{title}"): {what}.',
        f"Bad: {bad}: {_reproduced(done, done.subject.name(BAD))} of {len(trials)} trials fail. "
        f"Good: {good}.",
        *(f"Every kernel had the patch {patch}." for patch in done.setup.patches),
        f"Found by bisection with repeated trials of {experiment.scenario} under QEMU "
        f"(preempt={boot.preempt}, {boot.cpus} CPUs), confidence {end.confidence:.4g}: {end.how}",
        f"{checks(done)[0].upper()}{checks(done)[1:]}.",
    ]
    body = "\n\n".join(textwrap.fill(text, _MAIL) for text in words)
    evidence = "\n".join(evidence_lines(shown)) if shown else ""
    result = BisectResult.model_validate(bisection_json(done))
    rows = [tested_row(result, kernel) for kernel in result.tested]
    table = "\n".join(
        f"  {line}" for line in aligned([("commit", "trials", "fail", "verdict"), *(row[:4] for row in rows)])
    )
    titles = "\n".join(f"  {row[0]} {row[-1][:_TERMINAL]}" for row in rows)
    return (
        f"Subject: [REGRESSION] {what}\n\n{body}\n\n{evidence}\n\n{table}\n\n{titles}\n\n"
        f"To repeat it:\n\n  {done.reproduce}\n\n#regzbot introduced: {commit}\n"
    )
