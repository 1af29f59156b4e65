# SPDX-License-Identifier: GPL-2.0-only
"""What `bisect` was asked to bisect: commits, the patches of a series, or Kconfig symbols."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.arguments import experiment_from, experiment_named, in_qemu_only, patch_files
from harness.bisect.commits import CommitSubject
from harness.bisect.report import Bisection, regression_text, verdicts
from harness.bisect.repository import Commits, Repository
from harness.bisect.series import SeriesSubject
from harness.bisect.subject import Subject
from harness.bisect.symbols import ConfigSubject
from harness.cache import digest, sha256_file
from harness.config import Experiment, GitTree, KernelConfig, parse_tree, validated
from harness.deadline import Deadline
from harness.disk import write_atomically
from harness.errors import UserError
from harness.experiment.kernels import (
    experiment_for,
    experiment_with,
    get_tree,
    kernel_of,
    patches_for_bisection,
)
from harness.experiment.options import Workshop
from harness.kernel.tree import KernelTree
from harness.results.runfolder import arm_of
from harness.scenario.catalogue import scenario_values
from harness.target.machine import pick_machine
from harness.target.protocol import Machine
from harness.verbs.compare import DEFAULT_EXPERIMENT

#: The name of the kernel that is bisected, in the experiment that is kept with the run.
KERNEL = "bisected"
#: What a tree needs to run under the models it cannot choose any more.
ENABLER = "x86-preempt-choice"
ENABLED = ("none", "voluntary")
#: A bisection of a bug that shows rarely can take days; git is asked for a commit all along.
LIMIT_S = 14 * 86400.0


@dataclass(frozen=True)
class Asked:
    """A question for a bisection.

    identity: what makes it this question, beside the experiment. patches: what goes on every kernel, as
    reports say it. skips: names of candidates that are not to be tested. trial_words: the arguments of `run`
    that repeat a trial of a kernel; empty if none do. keep: leaves what only this kind of bisection has in
    its folder, by what a report calls it.
    """

    subject: Subject
    experiment: Experiment
    machine: Machine
    identity: tuple[str, ...]
    patches: tuple[str, ...]
    skips: tuple[str, ...] = ()
    trial_words: Callable[[str], Sequence[str]] = lambda arm: ()
    keep: Callable[[Bisection], Mapping[str, Path]] = lambda done: {}


def asked_for(arguments: argparse.Namespace, workshop: Workshop, stack: contextlib.ExitStack) -> Asked:
    """What the command line asks for; what it holds open ends with `stack`. UserError for what cannot be."""
    patches = patch_files(arguments.patch)
    _check(arguments)
    if arguments.series or arguments.symbols:
        for name in ("paths", "skips", "first_parent"):
            if getattr(arguments, name):
                word = {"paths": "path", "skips": "skip"}.get(name, "first-parent")
                raise UserError(f"--{word} is for the commits of a repository")
        return (_series if arguments.series else _symbols)(arguments, workshop, patches)
    return _commits(arguments, workshop, patches, stack)


def _check(arguments: argparse.Namespace) -> None:
    """UserError for what can be seen to be wrong before anything is fetched."""
    base = _named(arguments) or experiment_named(DEFAULT_EXPERIMENT)
    scenario_values(experiment_from(arguments, base))
    if arguments.kernel:
        kernel_of(base, arguments.kernel)
    for name in (*arguments.good, arguments.bad or "") if arguments.symbols else ():
        if name and not Path(name).is_file():
            raise UserError(f"no file {name!r}", hint="--good FILE --bad FILE, of CONFIG_X=y lines")


def _commits(
    arguments: argparse.Namespace, workshop: Workshop, patches: Sequence[str], stack: contextlib.ExitStack
) -> Asked:
    named = parse_tree(arguments.tree) if arguments.tree else GitTree(kind="git", url=str(Path.cwd()))
    if not isinstance(named, GitTree):
        raise UserError(f"--tree {arguments.tree} has no history", hint="--tree git:PATH or git:URL")
    if not arguments.good:
        raise UserError("no good revision is given", hint="--good REV, a revision without the bug")
    repository = stack.enter_context(
        Repository.open(named.url, workshop.cache, workshop.progress, Deadline.after(LIMIT_S))
    )
    commits = repository.history(
        arguments.good, arguments.bad or named.revision, arguments.paths, arguments.first_parent
    )
    skips = repository.skips(commits, arguments.skips)
    if any(commits.names[place] == commits.bad for place in skips):
        raise UserError("--skip names the bad end", hint="leave it out of the range, or choose another --bad")
    with workshop.progress.step(f"the bad end, {commits.bad[:12]}"):
        tree = repository.tree(commits.bad)
    experiment, kernel = _experiment(arguments, tree, patches)
    machine = pick_machine(experiment.boot.machine, [kernel])
    # Where the ends part comes right before the candidates; of several good ends the others only narrow them.
    good = next(iter((*commits.bases, *commits.good)))
    if len(ends := (*commits.bases, *commits.good)) > 1:
        others = " ".join(commit[:12] for commit in ends[1:])
        workshop.progress.note(f"tested as the good end: {good[:12]}; taken to be good: {others}")
    subject = CommitSubject(repository, good, commits.bad, commits, kernel, (), machine)

    def trial_words(arm: str) -> Sequence[str]:
        known = {arm_of(name) for name in (*commits.names, commits.bad, good)}
        return ["--kernel", KERNEL, "--tree", f"git:{named.url}@{arm}"] if arm in known else []

    def keep(done: Bisection) -> Mapping[str, Path]:
        return _keep_commits(done, repository, commits)

    return Asked(
        subject,
        experiment,
        machine,
        ("commits", named.url, commits.bad, *commits.good, *commits.names, *_contents(patches)),
        _said(kernel, tree),
        tuple(commits.names[place] for place in sorted(skips)),
        trial_words,
        keep,
    )


def _keep_commits(done: Bisection, repository: Repository, commits: Commits) -> Mapping[str, Path]:
    """Git's own log of the search, and a text that reports the culprit."""
    ends = (*commits.good, *commits.bases)
    git = repository.record(ends, commits.bad, commits.first_parent, commits.paths, verdicts(done))
    kept = {"git_bisect_log": done.folder / "bisect.log"}
    write_atomically(kept["git_bisect_log"], git.log.encode())
    culprit = done.conclusion.culprit
    if culprit is not None and done.conclusion.proven:
        kept["regression"] = done.folder / "regression.txt"
        title = repository.title(commits.names[culprit])
        write_atomically(kept["regression"], regression_text(done, title).encode())
    return kept


def _series(arguments: argparse.Namespace, workshop: Workshop, patches: Sequence[str]) -> Asked:
    if arguments.good or arguments.bad:
        raise UserError(
            "--bisect-patches takes no --good and --bad",
            hint="the good end is --tree without the patches, the bad end is with all of them",
        )
    series = patch_files(arguments.series)
    tree, experiment, kernel = _tree(arguments, workshop, patches)
    machine = pick_machine(experiment.boot.machine, [kernel])
    subject = SeriesSubject.of(tree, series, kernel, (), machine)
    identity = ("series", tree.ident, *_contents(series), *_contents(patches))
    return Asked(subject, experiment, machine, identity, _said(kernel, tree))


def _symbols(arguments: argparse.Namespace, workshop: Workshop, patches: Sequence[str]) -> Asked:
    if len(arguments.good) != 1 or not arguments.bad:
        raise UserError(
            "--bisect-config needs two files of settings", hint="--good FILE --bad FILE, of CONFIG_X=y lines"
        )
    good, bad = Path(arguments.good[0]).resolve(), Path(arguments.bad).resolve()
    tree, experiment, kernel = _tree(arguments, workshop, patches)
    machine = pick_machine(experiment.boot.machine, [kernel])
    subject = ConfigSubject.of(tree, good, bad, kernel, (), machine, workshop)
    contents = [sha256_file(path) for path in (good, bad)]
    identity = ("symbols", tree.ident, *contents, *_contents(patches))
    return Asked(subject, experiment, machine, identity, _said(kernel, tree))


def _named(arguments: argparse.Namespace) -> Experiment | None:
    """The experiment that is named, or has the kernel that is; None if neither is."""
    if arguments.experiment:
        return experiment_named(arguments.experiment)
    return experiment_with(arguments.kernel) if arguments.kernel else None


def _tree(
    arguments: argparse.Namespace, workshop: Workshop, patches: Sequence[str]
) -> tuple[KernelTree, Experiment, KernelConfig]:
    """The tree that stays the same, and how it is tried."""
    asked = experiment_from(arguments, _named(arguments) or experiment_named(DEFAULT_EXPERIMENT))
    tree = get_tree(asked.tree, workshop, asked.tarball)
    return tree, *_experiment(arguments, tree, patches)


def _experiment(
    arguments: argparse.Namespace, tree: KernelTree, patches: Sequence[str]
) -> tuple[Experiment, KernelConfig]:
    """How trials are run, and what goes on every kernel: it is in the experiment under the name `KERNEL`.

    Unless the user names one, by the built-in experiment for the tree's version, or the default one.
    """
    base = _named(arguments)
    if base is None:
        try:
            base = experiment_for(tree.version)[1]
        except UserError:
            base = experiment_named(DEFAULT_EXPERIMENT)
    experiment = experiment_from(arguments, base)
    in_qemu_only(experiment, "bisect")
    scenario_values(experiment)
    if arguments.kernel:
        kernel = kernel_of(experiment, arguments.kernel)
    else:
        kernel = KernelConfig(
            patches=(ENABLER,) if experiment.boot.preempt in ENABLED else (),
            fragments=tuple(arguments.fragments),
        )
    kernel = validated(
        KernelConfig,
        {**kernel.model_dump(mode="json"), "patches": [*kernel.patches, *patches]},
        "the kernel that is bisected",
    )
    values = json.loads(experiment.model_dump_json())
    values["kernels"][KERNEL] = kernel.model_dump(mode="json")
    values["versions"] = ""
    return validated(Experiment, values, "the command line"), kernel


def _said(kernel: KernelConfig, tree: KernelTree) -> tuple[str, ...]:
    """What goes on every kernel, as a report names it."""
    patches = patches_for_bisection(kernel.patches, tree)
    return tuple(f"{patch.name} ({patch.note})" if patch.note else patch.name for patch in patches)


def _contents(patches: Sequence[str]) -> list[str]:
    """What patches hold: ids of the catalogue stay as they are."""
    return [digest([sha256_file(Path(name))]) if Path(name).is_file() else name for name in patches]
