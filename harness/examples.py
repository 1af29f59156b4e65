# SPDX-License-Identifier: GPL-2.0-only
"""An example or more for each verb: `--help` and the manual page show them, and a test parses them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Example(NamedTuple):
    """The words after `hmm-harness`, as a shell takes them, and what they do."""

    words: str
    does: str


EXAMPLES: Mapping[str, tuple[Example, ...]] = {
    "compare": (
        Example("compare", "the newest 7.x tree without and with the fix, 6 trials each"),
        Example(
            "compare --try fix.mbox", "is this patch a fix? The unfixed kernel, against that plus the patch"
        ),
        Example("compare --until-sure --trials 40", "ends as soon as the verdict stands"),
        Example("compare linux-6.12 --seeds 1..20", "another tree; one trial an arm for each seed"),
    ),
    "run": (
        Example("run --kernel base-without-wait", "one trial of the unfixed kernel"),
        Example("run --kernel base --scenario rt-spinner --preempt full", "another scenario"),
    ),
    "matrix": (
        Example("matrix --plan", "what the built-in matrix would run, and what cannot be"),
        Example("matrix --scenario race --trials 2", "every fix, one scenario"),
    ),
    "nightly": (
        Example("nightly ci/nightly.yaml", "one night; the next one is compared with it"),
        Example("nightly ci/nightly.yaml --json -q", "for CI: 0 nothing new, 1 regression, 3 not judged"),
        Example("history --of nightly", "the nights so far"),
    ),
    "bisect": (
        Example("bisect --tree git:/src/linux --good v7.2 --bad v7.3-rc1", "which commit brought the bug"),
        Example("bisect --bisect-patches series.mbox", "which patch of a series, on top of --tree"),
        Example("bisect --bisect-config --good a.config --bad b.config", "which Kconfig symbol"),
    ),
    "boot": (Example("boot base", "a shell in a guest of the fixed kernel, with module and stressor"),),
    "classify": (Example("classify console.log", "lockups, stalls and splats, with line numbers"),),
    "selftest": (
        Example("selftest", "makes guests fail in every way: is each reported as what it is?"),
        Example("selftest --case soft-lockup --case panic", "these only; --list names all"),
    ),
    "replay": (
        Example("replay runs/RUN/trials/001-unfixed", "is it the same again, byte for byte?"),
        Example("replay runs/RUN/trials/001-unfixed --gdb", "a debugger, just after the onset"),
    ),
    "diagnose": (
        Example(
            "diagnose vmcore --vmlinux vmlinux --module hmm_harness.ko.debug --svg cycle.svg",
            "who waits for whom in a kdump, and whether that is a circle",
        ),
    ),
    "siblings": (
        Example("siblings", "the newest tree"),
        Example("siblings folder:/src/linux --path mm", "this tree, a part of it"),
    ),
    "history": (
        Example("history", "the newest 40 runs"),
        Example("history --signatures --kernel 7.3", "when each failure appeared first"),
        Example("history --nights", "the last night beside the one before"),
        Example("history --rebuild runs/", "reads run folders into a store that lost them"),
    ),
    "show": (
        Example("show last", "the newest run's report"),
        Example("show 20261123-180000 --trial 3", "its third trial, of every arm"),
        Example("show last~1 --rerun", "the run before once more, if it would be the same"),
    ),
    "export": (
        Example("export last --format html -o report.html", "a page, readable without network"),
        Example("export last --format reply --mbox fix.mbox", "a mail with the verdict, to be sent"),
        Example("export last --format junit -o junit.xml", "for CI"),
    ),
    "prune": (
        Example("prune --keep 30d --dry-run", "what would go: the evidence of older runs"),
        Example("prune --keep 50 --keep-verdicts 365d", "evidence of 50 runs, verdicts of a year"),
        Example("prune --keep-cache 30d --dry-run", "sources and builds that nobody used for a month"),
    ),
    "list": (
        Example("list", "every name that the other verbs take, and what it is"),
        Example("list rt-spinner", "a scenario: its parameters, with default and range, and its metrics"),
        Example("list patches", "the catalogue of changes; `list ID` tells all about one"),
    ),
    "doctor": (Example("doctor", "what is missing, and the command that mends it"),),
    "completion": (
        Example(
            "completion bash >~/.local/share/bash-completion/completions/hmm-harness",
            "for every bash from now on",
        ),
        Example("completion zsh >~/.zfunc/_hmm-harness", "for zsh, with ~/.zfunc in its fpath"),
        Example("completion fish >~/.config/fish/completions/hmm-harness.fish", "for fish"),
    ),
}
