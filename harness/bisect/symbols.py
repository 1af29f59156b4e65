# SPDX-License-Identifier: GPL-2.0-only
"""The Kconfig symbols in which two configurations differ as what is bisected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.bisect.candidate import build_candidate
from harness.bisect.differences import Difference, differences
from harness.bisect.model import BAD, GOOD, History, Place
from harness.config import KernelConfig
from harness.deadline import Deadline
from harness.errors import UserError
from harness.experiment.kernels import BootableKernel, kernel_request, patches_for_bisection
from harness.experiment.options import BUILD_LIMIT_S, Workshop
from harness.kernel.build import BuildRequest, resolved_config
from harness.kernel.kconfig import merge, parse_fragment, read_config, unmet
from harness.kernel.language import Kconfig
from harness.kernel.make import toolchain
from harness.kernel.spec import KernelTree
from harness.target.protocol import Machine

#: The line that tells a whole .config from a few settings; Kconfig writes it.
_WHOLE = "# Automatically generated file; DO NOT EDIT."
#: Symbols that a note names.
_NAMED = 5


@dataclass(frozen=True)
class ConfigSubject:
    """A tree and two configurations: a candidate has the bad one's values up to and including its own symbol.

    The rest is as in the good one. request: the kernel of the good end, its resolved configuration as the
    base. steps: what the bad end has otherwise, in the order in which it is set. where: what the bad end is
    called in errors. Every end and candidate has the settings that guests need.
    """

    request: BuildRequest
    steps: tuple[Difference, ...]
    where: str
    history: History = field(init=False)

    def __post_init__(self) -> None:
        parents = tuple((place - 1,) if place else () for place in range(len(self.steps)))
        object.__setattr__(self, "history", History(tuple(step.name for step in self.steps), parents))

    @classmethod
    def of(
        cls,
        tree: KernelTree,
        good: Path,
        bad: Path,
        kernel: KernelConfig,
        extra_patches: Sequence[str],
        machine: Machine,
        workshop: Workshop,
    ) -> ConfigSubject:
        """The steps between two files: each a whole .config, or settings on top of what guests have.

        A setting must take, and not contradict what guests need. A whole .config is changed to that, and a
        note says where. UserError otherwise, and if the two come to the same.
        """
        patches = patches_for_bisection((*kernel.patches, *extra_patches), tree)
        plain = replace(kernel_request(tree, patches, kernel, machine), jobs=workshop.jobs)
        deadline = Deadline.after(BUILD_LIMIT_S)

        def resolved(request: BuildRequest) -> str:
            return resolved_config(request, workshop.cache, workshop.progress, deadline)

        base, wanted = (resolved(_end(plain, file, workshop)) for file in (good, bad))
        kconfig = Kconfig(tree.path, toolchain().srcarch)
        steps = differences(read_config(base), read_config(wanted), kconfig)
        if not steps:
            raise UserError(
                f"{good} and {bad} come to the same configuration of {tree.description}",
                hint="give two files that differ in a symbol that can be set",
            )
        shown = _shown(base)
        # What the bad end leaves unset on purpose must not come up by its default on the way.
        unset = [
            setting.line
            for setting in parse_fragment(wanted, bad.name)
            if setting.value == "n" and setting.symbol not in shown
        ]
        start = base + "".join(f"{line}\n" for line in unset)
        subject = cls(replace(plain, base_config=start), steps, bad.name)

        def missed(steps: Sequence[Difference]) -> frozenset[str]:
            reached = read_config(resolved(subject.request_for(steps)))
            return _symbols(differences(reached, read_config(wanted), kconfig))

        # What only one end can set comes or goes with what it depends on, most often at its default: then it
        # is no step.
        causes = shown & _shown(wanted)
        while True:
            subject = replace(subject, steps=tuple(step for step in steps if step.symbols & causes))
            try:
                apart = missed(subject.steps)
            except UserError:
                if subject.steps == steps:
                    raise
                apart = _symbols(steps)  # a step needs one that was left out
            if apart <= causes:
                break
            causes |= apart
        if apart:
            workshop.progress.note(f"the bad end is taken without {_some(sorted(apart))}: that does not take")
        return subject

    def name(self, place: Place) -> str:
        """A symbol; of the bad end it is the last one."""
        return "good-config" if place == GOOD else self.history.names[place]

    def label(self, place: Place) -> str:
        """What a candidate sets, or what is special about an end."""
        if place in (BAD, GOOD):
            return f"{'all' if place == BAD else 'none'} of {len(self.steps)} changes of the configuration"
        return str(self.steps[place])

    def kernel(self, place: Place, workshop: Workshop) -> BootableKernel:
        """The kernel with the symbols set up to a place. UnusableError if one does not take."""
        count = {BAD: len(self.steps), GOOD: 0}.get(place, place + 1)
        return build_candidate(self.request_for(self.steps[:count]), workshop)

    def without(self, culprit: int, workshop: Workshop) -> BootableKernel | None:
        """The bad end with one symbol as in the good one. UnusableError if others need it."""
        rest = (*self.steps[:culprit], *self.steps[culprit + 1 :])
        return build_candidate(self.request_for(rest), workshop)

    def request_for(self, steps: Sequence[Difference]) -> BuildRequest:
        """The good end's kernel with these steps taken."""
        settings = tuple(setting for step in steps for setting in step.settings(self.where))
        return replace(self.request, extra=(*self.request.extra, *settings))


def _end(plain: BuildRequest, file: Path, workshop: Workshop) -> BuildRequest:
    """The kernel that a file asks for."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {error}") from error
    settings = parse_fragment(text, file.name)
    if _WHOLE not in text:
        return replace(plain, extra=(*plain.extra, *settings))
    needed = merge(plain.fragments, plain.extra)
    changed = unmet(needed, {setting.symbol: setting.value for setting in settings})
    if changed:
        names = _some([setting.symbol for setting in changed])
        workshop.progress.note(f"{file.name}: what guests need goes on top, and changes {names}")
    return replace(plain, base_config=text)


def _symbols(steps: Sequence[Difference]) -> frozenset[str]:
    return frozenset(symbol for step in steps for symbol in step.symbols)


def _shown(config: str) -> frozenset[str]:
    """The symbols that a resolved configuration has a line about: those it could set."""
    return frozenset(setting.symbol for setting in parse_fragment(config, ".config"))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
