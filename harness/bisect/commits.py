# SPDX-License-Identifier: GPL-2.0-only
"""Commits as what is bisected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.bisect.candidate import build_candidate, unusable
from harness.bisect.model import BAD, GOOD, History, Place
from harness.config import KernelConfig
from harness.experiment.kernels import BootableKernel, kernel_request, patches_for_bisection
from harness.experiment.options import Workshop
from harness.kernel.spec import KernelTree
from harness.target.protocol import Machine


class CommitSource(Protocol):
    """Where commits come from: `harness.bisect.repository.Repository`."""

    def tree(self, commit: str) -> KernelTree:
        """The source at a commit; it may be gone at the next call."""

    def title(self, commit: str) -> str: ...

    def reverted(self, bad: str, commit: str) -> str | None:
        """A commit that is `bad` without the change of `commit`; None where that conflicts."""


@dataclass(frozen=True)
class CommitSubject:
    """The commits of a history, each with what the experiment's kernel adds to its tree.

    good, bad: the commits at the ends, 40 hex digits. kernel: patches and settings for every commit, as
    `patches_for_bisection` takes them. extra_patches: the user's own, on top of those.
    """

    repository: CommitSource
    good: str
    bad: str
    history: History
    kernel_config: KernelConfig
    extra_patches: Sequence[str]
    machine: Machine

    def name(self, place: Place) -> str:
        """The commit of a place."""
        return {BAD: self.bad, GOOD: self.good}.get(place) or self.history.names[place]

    def label(self, place: Place) -> str:
        """A commit's first 12 digits, and its title."""
        commit = self.name(place)
        return f"{commit[:12]} {self.repository.title(commit)}"

    def kernel(self, place: Place, workshop: Workshop) -> BootableKernel:
        """The kernel at a commit. UnusableError if it does not build, or a patch it needs does not apply."""
        return self._kernel(self.name(place), workshop)

    def without(self, culprit: int, workshop: Workshop) -> BootableKernel | None:
        """The bad end with a commit reverted; None where that conflicts. UnusableError as from `kernel`."""
        commit = self.repository.reverted(self.bad, self.history.names[culprit])
        return self._kernel(commit, workshop) if commit else None

    def _kernel(self, commit: str, workshop: Workshop) -> BootableKernel:
        with unusable():
            tree = self.repository.tree(commit)
            patches = patches_for_bisection((*self.kernel_config.patches, *self.extra_patches), tree)
            request = kernel_request(tree, patches, self.kernel_config, self.machine)
        return build_candidate(request, workshop)
