# SPDX-License-Identifier: GPL-2.0-only
"""The patches of a series as what is bisected."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.bisect.candidate import build_candidate, unusable
from harness.bisect.model import BAD, GOOD, History, Place
from harness.config import KernelConfig
from harness.errors import UserError
from harness.experiment.kernels import (
    BootableKernel,
    kernel_request,
    patches_for_bisection,
    resolve_patches,
)
from harness.experiment.options import Workshop
from harness.kernel.apply import apply_patches
from harness.kernel.patches import Patch
from harness.kernel.spec import KernelTree
from harness.target.protocol import Machine


@dataclass(frozen=True)
class SeriesSubject:
    """A tree and patches in order: a candidate is the tree with the patches up to and including its own.

    The good end is the tree without any of them, the bad end has all. Every kernel has the patches in `base`
    as well, below the series.
    """

    tree: KernelTree
    base: tuple[Patch, ...]
    patches: tuple[Patch, ...]
    kernel_config: KernelConfig
    machine: Machine
    history: History = field(init=False)

    def __post_init__(self) -> None:
        places = range(len(self.patches))
        parents = tuple((place - 1,) if place else () for place in places)
        object.__setattr__(self, "history", History(_names(self.patches), parents))

    @classmethod
    def of(
        cls,
        tree: KernelTree,
        series: Sequence[str],
        kernel: KernelConfig,
        extra_patches: Sequence[str],
        machine: Machine,
    ) -> SeriesSubject:
        """The series in files, mboxes and catalogue ids. Patches that the tree has already are left out.

        UserError if the whole does not apply, or nothing is left.
        """
        base = patches_for_bisection((*kernel.patches, *extra_patches), tree)
        applied = apply_patches(tree, [*base, *resolve_patches(series, tree)]).patches[len(base) :]
        patches = tuple(one.patch for one in applied if one.status == "applied")
        if not patches:
            raise UserError(
                f"{tree.description} has all of the {len(applied)} patches already"
                if applied
                else "there is no patch to bisect",
                hint="give the patches one of which brings the bug, on a tree without them",
            )
        return cls(tree, base, patches, kernel, machine)

    def name(self, place: Place) -> str:
        """A patch's name; of the bad end it is that of the last one."""
        return "no-patches" if place == GOOD else self.history.names[place]

    def label(self, place: Place) -> str:
        """A patch's number and title, or what is special about an end."""
        count = len(self.patches)
        match place:
            case int(position) if position == GOOD:
                return f"without the {count} patches"
            case int(position) if position == BAD:
                return f"with all {count} patches"
        return f"{place + 1}/{count} {self.patches[place].title}"

    def kernel(self, place: Place, workshop: Workshop) -> BootableKernel:
        """The tree with the patches up to a place. UnusableError if they do not apply or do not build."""
        count = {BAD: len(self.patches), GOOD: 0}.get(place, place + 1)
        return self._kernel(self.patches[:count], workshop)

    def without(self, culprit: int, workshop: Workshop) -> BootableKernel | None:
        """The tree with all patches but one; None if later ones need it. UnusableError as from `kernel`."""
        rest = (*self.patches[:culprit], *self.patches[culprit + 1 :])
        try:
            apply_patches(self.tree, [*self.base, *rest])
        except UserError:
            return None
        return self._kernel(rest, workshop)

    def _kernel(self, patches: Sequence[Patch], workshop: Workshop) -> BootableKernel:
        with unusable():
            request = kernel_request(self.tree, (*self.base, *patches), self.kernel_config, self.machine)
        return build_candidate(request, workshop)


def _names(patches: Sequence[Patch]) -> tuple[str, ...]:
    """The patches' names; those that share one, as of one mbox, are told apart by their number."""
    plain = [re.sub(r"[^\w.-]", "-", patch.name)[:60] for patch in patches]
    count = Counter(plain)
    return tuple(
        name if count[name] == 1 and "." in name else f"{number:04d}-{name}"
        for number, name in enumerate(plain, start=1)
    )
