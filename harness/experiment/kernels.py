# SPDX-License-Identifier: GPL-2.0-only
"""From the kernels an experiment names to finished builds and the programs for their guests."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.config import (
    DebianTree,
    Experiment,
    FolderTree,
    GitTree,
    KernelConfig,
    TarballTree,
    builtin_experiments,
    known_fragments,
    load_experiment,
)
from harness.deadline import Deadline
from harness.errors import UserError
from harness.experiment.options import BUILD_LIMIT_S, FETCH_LIMIT_S, Workshop
from harness.hmmtests import HmmTests, build_hmm_tests
from harness.kernel.apply import apply_patches
from harness.kernel.build import BuildRequest, KernelBuild, build_kernel
from harness.kernel.kconfig import parse_setting
from harness.kernel.modules import driver_modules
from harness.kernel.patches import Catalogue, Patch, in_range, read_patches
from harness.kernel.preemption import check_offered, offered_models
from harness.kernel.tree import DebianSpec, FolderSpec, GitSpec, KernelTree, TarballSpec, TreeSpec, fetch_tree
from harness.kmod import GuestPrograms, build_guest_programs
from harness.scenario.catalogue import load_scenario
from harness.suggest import did_you_mean
from harness.target.protocol import Machine

Tree = DebianTree | TarballTree | GitTree | FolderTree


@dataclass(frozen=True)
class BootableKernel:
    """A kernel and what its guest runs."""

    build: KernelBuild
    programs: GuestPrograms
    #: None: not wanted.
    hmm_tests: HmmTests | None = None
    #: A driver's modules in the order in which a guest without modprobe loads them; none: not wanted.
    driver: tuple[Path, ...] = ()


def tree_spec(tree: Tree) -> TreeSpec:
    """What the kernel room is asked for."""
    match tree:
        case DebianTree(package=package):
            return DebianSpec(package=None if package == "newest" else package)
        case TarballTree(url=url, sha256=sha256):
            return TarballSpec(url, sha256)
        case GitTree(url=url, revision=revision):
            return GitSpec(url, revision)
        case FolderTree(path=path):
            return FolderSpec(Path(path))


def get_tree(tree: Tree, workshop: Workshop, fallback: TarballTree | None = None) -> KernelTree:
    """Fetch a tree, or take it from the cache."""
    spec = tree_spec(fallback) if fallback else None
    with workshop.progress.step("kernel source"):
        return fetch_tree(
            tree_spec(tree),
            workshop.cache,
            workshop.progress,
            Deadline.after(FETCH_LIMIT_S),
            fallback=spec if isinstance(spec, TarballSpec) else None,
        )


def experiment_for(version: str, scenario: str | None = None) -> tuple[str, Experiment]:
    """The built-in experiment for a kernel version; UserError if there is none.

    With a scenario it is the one for that scenario, or for its bug, if there is one.
    """
    loaded = {name: load_experiment(name) for name in builtin_experiments()}
    found = {name: one for name, one in loaded.items() if in_range(version, one.versions)}
    if not found:
        ranges = ", ".join(f"{name} ({experiment.versions})" for name, experiment in loaded.items())
        raise UserError(
            f"no built-in experiment for kernel {version}: {ranges}",
            hint="write one (see harness/experiment/README.md) and give it as the argument",
        )

    def fits(experiment: Experiment) -> int:
        if scenario is None:
            return 0
        same_bug = load_scenario(experiment.scenario).bug == load_scenario(scenario).bug
        return (experiment.scenario == scenario) + same_bug

    name = max(found, key=lambda name: fits(found[name]))  # of equal ones the first
    return name, found[name]


def check_version(experiment: Experiment, tree: KernelTree) -> None:
    """UserError if the experiment, or its scenario, is not meant for the tree's version."""
    load_scenario(experiment.scenario).check_version(tree.version)
    if experiment.versions and not in_range(tree.version, experiment.versions):
        raise UserError(
            f"the experiment is for kernels {experiment.versions}, {tree.description} is {tree.version}",
            hint="choose another tree (--tree) or another experiment",
        )


def resolve_patches(
    names: Sequence[str], tree: KernelTree, catalogue: Catalogue | None = None
) -> tuple[Patch, ...]:
    """Catalogue ids and files, in order. UserError for an unknown one."""
    catalogue = catalogue or Catalogue.load()
    patches: list[Patch] = []
    for name in names:
        path = Path(name)
        if name in catalogue.ids or not path.is_file():
            patches.append(catalogue.resolve(name, tree.version))
        else:
            patches += read_patches(path)
    return tuple(patches)


def patches_for_bisection(
    names: Sequence[str], tree: KernelTree, catalogue: Catalogue | None = None
) -> tuple[Patch, ...]:
    """What goes on one of many commits: build fixes first, then the named changes as `resolve_patches` does.

    The catalogue's build fixes for the tree's version are put on where they apply: a commit that one does not
    fit either does not need it or will not compile. An enabler that does not cover the version is left off.
    """
    catalogue = catalogue or Catalogue.load()
    fixes: list[Patch] = []
    for fix in catalogue.build_fixes(tree.version):
        with contextlib.suppress(UserError):
            apply_patches(tree, [*fixes, fix])
            fixes.append(fix)
    wanted = [name for name in names if not catalogue.leaves_off(name, tree.version)]
    return (*fixes, *resolve_patches(wanted, tree, catalogue))


def kernel_request(
    tree: KernelTree, patches: Sequence[Patch], kernel: KernelConfig, machine: Machine
) -> BuildRequest:
    """What a kernel for a guest on `machine` is built from: these patches, and the settings of `kernel`.

    The fragment `box` is a machine's, of any.
    """
    machines = () if "box" in kernel.fragments else (machine,)
    preemption = () if "lazy" in kernel.fragments else ("voluntary",)
    return BuildRequest(
        tree=tree,
        patches=tuple(patches),
        fragments=tuple(
            known_fragments()[name] for name in ("base", *machines, *preemption, *kernel.fragments)
        ),
        extra=tuple(parse_setting(setting) for setting in kernel.config),
    )


def workshop_for(experiment: Experiment, workshop: Workshop) -> Workshop:
    """The workshop as the experiment's scenario needs it."""
    program = load_scenario(experiment.scenario).program
    return replace(
        workshop,
        hmm_tests=program == "hmm-tests",
        # A box loads its driver itself.
        driver="xe" if program == "igt" and experiment.qemu.userland else "",
    )


def finish_kernel(request: BuildRequest, workshop: Workshop, *, with_selftest: bool = True) -> BootableKernel:
    """Build a kernel and its guest's programs, or take them from the cache."""
    request = replace(request, jobs=workshop.jobs)
    deadline = Deadline.after(BUILD_LIMIT_S)
    build = build_kernel(request, workshop.cache, workshop.progress, deadline)
    programs = build_guest_programs(
        request, build, workshop.cache, workshop.progress, deadline, with_selftest=with_selftest
    )
    tests = None
    if workshop.hmm_tests:
        tests = build_hmm_tests(request, build, workshop.cache, workshop.progress, deadline)
    driver: tuple[Path, ...] = ()
    if workshop.driver:
        driver = driver_modules(build, workshop.driver, workshop.cache, workshop.progress, deadline)
    return BootableKernel(build, programs, tests, driver)


def make_kernel(
    tree: KernelTree, kernel: KernelConfig, extra_patches: Sequence[str], machine: Machine, workshop: Workshop
) -> BootableKernel:
    """The kernel that an experiment names, with these patches on top."""
    patches = resolve_patches((*kernel.patches, *extra_patches), tree)
    return finish_kernel(kernel_request(tree, patches, kernel, machine), workshop)


def check_preempt(tree: KernelTree, name: str, build: KernelBuild, model: str) -> None:
    """UserError if the kernel of that name does not offer a preemption model: found out before it boots."""
    check_offered(model, name, offered_models(tree.path, build.config.read_text(encoding="utf-8")))


def experiment_with(kernel: str) -> Experiment:
    """The built-in experiment that has a kernel of this name; UserError if none has."""
    known = known_kernels()
    if kernel in known:
        return load_experiment(known[kernel][0])
    named = ", ".join(f"{name} ({', '.join(experiments)})" for name, experiments in known.items())
    raise UserError(
        f"no kernel {kernel!r}{did_you_mean(kernel, known)}",
        hint=f"one of (in brackets: the experiments that have it) {named}; "
        "or one of your own with --experiment FILE",
    )


def known_kernels() -> dict[str, list[str]]:
    """The kernels of all built-in experiments by name, each with the experiments that have it."""
    known: dict[str, list[str]] = {}
    for name in builtin_experiments():
        for kernel in load_experiment(name).kernels:
            known.setdefault(kernel, []).append(name)
    return known


def kernel_of(experiment: Experiment, name: str) -> KernelConfig:
    """A kernel of an experiment by name; UserError if there is none."""
    if name not in experiment.kernels:
        raise UserError(
            f"the experiment has no kernel {name!r}{did_you_mean(name, experiment.kernels)}",
            hint=f"one of {', '.join(experiment.kernels)}",
        )
    return experiment.kernels[name]
