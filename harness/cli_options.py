# SPDX-License-Identifier: GPL-2.0-only
"""Options that many verbs share, and what may be given with them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Literal

from harness.cache import default_cache_folder
from harness.results.database import default_store


def positive(text: str) -> int:
    """A number of at least 1."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def count(text: str) -> int:
    """A number that is not negative."""
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def confidence(text: str) -> float:
    """A probability of at least a half."""
    number = float(text)
    if not 0.5 <= number < 1.0:
        raise argparse.ArgumentTypeError("from 0.5 to below 1, as in 0.99")
    return number


def jobs(text: str) -> int | Literal["auto"]:
    """A number of at least 1, or `auto`."""
    return "auto" if text == "auto" else positive(text)


def make_jobs(command: argparse.ArgumentParser) -> None:
    """How kernels are compiled."""
    command.add_argument(
        "--make-jobs", type=positive, default=0, metavar="N", help="parallel compile jobs (default: CPUs + 1)"
    )


def places(command: argparse.ArgumentParser) -> None:
    """Where trials run, and how many at once."""
    where = command.add_mutually_exclusive_group()
    where.add_argument(
        "--jobs", type=jobs, default=1, metavar="N|auto",
        help="trials at once on this machine, at most as many as its cores and memory hold (default: 1)",
    )  # fmt: skip
    where.add_argument(
        "--scheduler", metavar="ADDRESS", help="run them on a Dask cluster, as in tcp://host:8786"
    )


def cache_folder(command: argparse.ArgumentParser) -> None:
    """Where sources and builds are kept."""
    command.add_argument(
        "--cache", type=Path, default=default_cache_folder(), help="source and builds (default: %(default)s)"
    )


def store(command: argparse.ArgumentParser) -> None:
    """Where runs are remembered."""
    command.add_argument(
        "--store",
        type=Path,
        default=default_store(),
        metavar="FILE",
        help="where runs are remembered (default: %(default)s)",
    )


def target(command: argparse.ArgumentParser) -> None:
    """A machine of its own."""
    command.add_argument(
        "--target", type=Path, metavar="FILE", help="a box, as harness/target/README.md describes it"
    )


def folders(command: argparse.ArgumentParser) -> None:
    """All places that a run writes to."""
    cache_folder(command)
    store(command)
    command.add_argument(
        "--out", type=Path, default=Path("runs"), help="where evidence goes (default: ./%(default)s)"
    )
