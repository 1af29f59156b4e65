# SPDX-License-Identifier: GPL-2.0-only
"""Who runs a verb's trials, as the command line has it: one by one, side by side, or a cluster."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.config import BootConfig
from harness.display import Display
from harness.errors import UserError
from harness.experiment.placement import Host, need_of, places
from harness.experiment.runner import OneByOne, Runner, SideBySide
from harness.results.runfolder import program


def resumption(arguments: argparse.Namespace, folder: Path) -> list[str]:
    """The command by which a run goes on, where it ran."""
    where = ["--scheduler", arguments.scheduler] if arguments.scheduler else []
    return [program(), arguments.verb, "--resume", str(folder), *where]


def check_places(arguments: argparse.Namespace) -> None:
    """UserError or InfraError if there is nobody to run trials: before anything is built."""
    if arguments.scheduler:
        from harness.experiment.cluster import check_address  # what it needs is installed with an extra

        check_address(arguments.scheduler)


@contextlib.contextmanager
def runner_for(
    arguments: argparse.Namespace, guests: Sequence[BootConfig], display: Display, only: str = ""
) -> Iterator[Runner]:
    """The runner that `--jobs` or `--scheduler` asks for; good while the block runs.

    `guests`: of all trials there may be. `only`: what all of them use and this machine has one of. What is
    more than fits is lowered, with a word about it; UserError for a cluster, which lacks that.
    """
    if only:
        if arguments.scheduler:
            raise UserError(f"--scheduler: the trials use {only}, which workers do not have")
        if arguments.jobs != 1:
            display.note(f"one trial at a time: all use {only}")
        yield OneByOne()
        return
    needs = [need_of(boot) for boot in guests]
    if arguments.scheduler:
        from harness.experiment.cluster import Cluster

        with Cluster.at(arguments.scheduler, needs, display) as cluster:
            yield cluster
        return
    host = Host.here()
    number, word = places(arguments.jobs, host, needs) if arguments.jobs != 1 else (1, "")
    if word:
        display.note(word)
    yield SideBySide(number, host) if number > 1 else OneByOne()


def boot_on(arguments: argparse.Namespace, boot: BootConfig) -> BootConfig:
    """A guest as it is booted there: whether this machine has KVM says nothing of a cluster's."""
    if arguments.scheduler and boot.accel == "auto":
        return boot.model_copy(update={"accel": "tcg"})
    return boot
