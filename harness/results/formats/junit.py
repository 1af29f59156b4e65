# SPDX-License-Identifier: GPL-2.0-only
"""JUnit XML, as GitLab and Jenkins read it: a suite for each arm, a case for each trial, and the verdict.

A control is meant to fail. Where it shows the bug its case is `skipped`, with the evidence, as pytest writes
an expected failure: a comparison that says `fixed` has no red case, and one that does not has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from xml.etree import ElementTree

from harness.plain import plain
from harness.results.cases import case_text, trial_cases
from harness.results.formats.evidence import evidence_text, trial_title
from harness.results.formats.night import night_cases
from harness.results.formats.options import Options
from harness.results.night import NightResult
from harness.results.reading import RunRecord, TrialRecord
from harness.results.summary import Arm, Mark, Summary, summarize
from harness.watch.ktap import CaseStatus

Element = ElementTree.Element

#: What a case holds; nothing if it passed.
_TAGS: Mapping[Mark, str] = {
    "passed": "",
    "expected": "skipped",
    "failed": "failure",
    "skipped": "skipped",
    "silent": "error",
}

#: What a suite counts, by the element that a case has.
_COUNTED = {"failure": "failures", "error": "errors", "skipped": "skipped"}
#: The same of a case of a suite, with its type.
_CASES: Mapping[CaseStatus, tuple[str, str]] = {
    CaseStatus.PASSED: ("", ""),
    CaseStatus.FAILED: ("failure", "test_failed"),
    CaseStatus.SKIPPED: ("skipped", "skipped"),
    CaseStatus.EXPECTED: ("skipped", "expected-failure"),
}


def junit(run: RunRecord, options: Options) -> str:
    """The run as a `testsuites` document."""
    summary = summarize(run)
    suites = [_suite(arm.name, _cases(summary, arm), arm) for arm in summary.arms]
    suites += _nights(summary.night) if summary.night else []
    suites.append(_suite(run.verb, [_verdict(summary)]))
    top = ElementTree.Element("testsuites", name=_text(f"hmm-harness {run.verb} {summary.scenario}".strip()))
    for count in ("tests", "failures", "errors", "skipped"):
        top.set(count, str(sum(int(suite.get(count, "0")) for suite in suites)))
    top.set("time", f"{sum(float(suite.get('time', '0')) for suite in suites):.3f}")
    top.extend(suites)
    ElementTree.indent(top)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(top, encoding="unicode") + "\n"


def _suite(name: str, cases: Iterable[Element], arm: Arm | None = None) -> Element:
    suite = ElementTree.Element("testsuite", name=_text(name))
    if arm:
        _properties(suite, arm)
    suite.extend(cases)
    found = suite.findall("testcase")
    suite.set("tests", str(len(found)))
    for tag, count in _COUNTED.items():
        suite.set(count, str(sum(case.find(tag) is not None for case in found)))
    suite.set("time", f"{sum(float(case.get('time', '0')) for case in found):.3f}")
    return suite


def _properties(suite: Element, arm: Arm) -> None:
    facts = {"role": arm.role, "kernel": arm.label, "guest": arm.guest}
    if arm.kernel:
        facts |= {"release": arm.kernel.release, "tree": arm.kernel.tree, "config": arm.kernel.config_sha}
        facts |= {"build": arm.kernel.build, "patches": ", ".join(patch.name for patch in arm.patches)}
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in facts.items():
        if value:
            ElementTree.SubElement(properties, "property", name=name, value=_text(value))


def _cases(summary: Summary, arm: Arm) -> Iterator[Element]:
    """Each trial, and what a suite of tests in it said."""
    for trial in arm.trials:
        yield _case(summary, arm, trial)
        for case in trial_cases(trial):
            place = _text(f"{summary.scenario}.{arm.name}.trial-{trial.index}")
            element = ElementTree.Element("testcase", classname=place, name=case.name)
            tag, kind = _CASES[case.status]
            if tag:
                said = _text(case.reason or str(case.status))
                ElementTree.SubElement(element, tag, type=kind, message=said).text = case_text(case)
            yield element


def _case(summary: Summary, arm: Arm, trial: TrialRecord) -> Element:
    place = _text(f"{summary.scenario}.{arm.name}")
    case = ElementTree.Element("testcase", classname=place, name=f"trial {trial.index}, seed {trial.seed}")
    result = trial.result
    if result is None:
        ElementTree.SubElement(case, "error", type=trial.state, message=f"the trial is {trial.state}")
        return case
    case.set("time", f"{result.seconds:.3f}")
    evidence = "\n".join(filter(None, [trial_title(result), evidence_text(result)]))
    mark = arm.mark(result)
    tag = _TAGS[mark]
    if tag:
        said = f"expected of a {arm.role}: " if mark == "expected" else ""
        kind = "expected-failure" if mark == "expected" else str(result.kind)
        ElementTree.SubElement(case, tag, type=kind, message=said + trial_title(result)).text = evidence
    lines = [
        trial_title(result),
        f"windows {result.windows}, iterations {result.iterations}",
        f"again: {trial.facts.get('command', summary.run.reproduce)}",
        f"evidence: {trial.folder}",
    ]
    ElementTree.SubElement(case, "system-out").text = _text("\n".join(lines))
    return case


def _nights(done: NightResult) -> list[Element]:
    """A suite for each tree, a case for each candidate: it fails if something is worse tonight."""
    suites: dict[str, list[Element]] = {}
    for found in night_cases(done):
        case = ElementTree.Element("testcase", classname=_text(found.tree), name=_text(found.name))
        tag = {"passed": "system-out", "failed": "failure", "silent": "error"}[found.standing]
        about = {"type": found.kind, "message": _text(found.said.splitlines()[0])} if found.kind else {}
        ElementTree.SubElement(case, tag, about).text = _text(found.said)
        suites.setdefault(found.tree, []).append(case)
    return [_suite(tree, cases) for tree, cases in suites.items()]


def _verdict(summary: Summary) -> Element:
    case = ElementTree.Element(
        "testcase", classname=_text(f"{summary.scenario}.{summary.run.verb}"), name="verdict"
    )
    said = _text(f"{summary.headline}: {summary.reason}")
    tag = {"good": "", "bad": "failure", "open": "error"}[summary.standing]
    if tag:
        ElementTree.SubElement(case, tag, type=_text(summary.headline), message=said).text = said
    ElementTree.SubElement(case, "system-out").text = _text(f"{said}\nagain: {summary.run.reproduce}")
    return case


def _text(text: str) -> str:
    """Text of anybody's as XML 1.0 takes it."""
    return plain(text)
