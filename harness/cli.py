# SPDX-License-Identifier: GPL-2.0-only
"""Verbs to calls, errors to exit codes."""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from harness import __version__
from harness.cache import Cache
from harness.cacheuse import in_use
from harness.cli_options import cache_folder, confidence, folders, make_jobs, places, target
from harness.cli_results import add_result_verbs
from harness.errors import HarnessError, InfraError
from harness.grammar import PROGRAM, finish

INTERRUPTED = 130

EXIT_STATUS = """0 the verdict is `fixed` (run: completed; bisect: one culprit, checked; classify:
nothing found; diagnose: no cycle; replay: identical; selftest: all as expected; siblings: no bug, all read;
matrix: every cell has an answer; nightly: nothing new), 1 another verdict, 2 bad input, 3 a fault of the
machine (nightly: nothing can be said), 130 interrupted"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that knows less than UTF-8 is no defect
            stream.reconfigure(errors="replace")
    words = sys.argv[1:] if argv is None else list(argv)
    arguments = grammar().parse_args(words, argparse.Namespace(argv=words))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        return _run(arguments)
    except HarnessError as error:
        return _say(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return InfraError.exit_code
    except OSError as error:
        place = f" {error.filename}" if error.filename else ""
        return _say(InfraError(f"{error.strerror or error}:{place}", hint="see `hmm-harness doctor`"))
    except Exception:  # noqa: BLE001 - a defect of this program must not end like a verdict
        traceback.print_exc()
        return _say(InfraError("this is a defect of hmm-harness", hint="report it with the lines above"))


@functools.cache
def grammar() -> argparse.ArgumentParser:
    """What every command of this process is read with; `parser` makes one that may be changed."""
    return parser()


def _run(arguments: argparse.Namespace) -> int:
    # The verbs bring in the statistics, which take a second to load: Ctrl-C counts by then.
    verb = importlib.import_module(f"harness.verbs.{arguments.verb}")
    json = getattr(arguments, "json", False)
    with contextlib.ExitStack() as stack:
        stream = sys.stderr if json else sys.stdout
        if json and arguments.quiet:  # the object is the result
            stream = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        display = importlib.import_module("harness.display").make_progress(stream, quiet=arguments.quiet)
        stack.callback(display.close)
        if arguments.verb != "prune" and hasattr(arguments, "cache"):
            stack.enter_context(in_use(Cache(arguments.cache)))
        return int(verb.main(arguments, display))


def _say(error: HarnessError) -> int:
    print(f"error: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)
    return error.exit_code


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Does hmm_range_fault() livelock on this kernel, and does the fix work?",
        epilog=f"exit status: {EXIT_STATUS}",
    )
    top.add_argument("--version", action="version", version=f"hmm-harness {__version__}")
    commands = top.add_subparsers(metavar="VERB", required=True)

    compare = commands.add_parser("compare", help="the experiment: control against candidate, and a verdict")
    compare.add_argument(
        "experiment", nargs="?", help="a YAML file or a built-in name (default: fits the tree)"
    )
    compare.add_argument(
        "--patch",
        action="append",
        default=[],
        metavar="[ARM=]FILE",
        help="a further patch (default: the candidate)",
    )
    compare.add_argument(
        "--try", dest="try_patch", metavar="FILE", help="the candidate is the control plus this patch"
    )
    compare.add_argument("--trials", type=int, metavar="N", help="trials an arm (default: 6)")
    compare.add_argument("--seeds", metavar="A..B", help="one trial an arm for each of these seeds")
    compare.add_argument(
        "--until-sure", action="store_true", help="end when the verdict stands; --trials is then the most"
    )
    compare.add_argument("--resume", type=Path, metavar="FOLDER", help="go on with an interrupted comparison")
    places(compare)
    _trial_options(compare)
    target(compare)
    compare.set_defaults(verb="compare")

    run = commands.add_parser("run", help="one trial")
    _kernel_options(run)
    run.add_argument("--kernel", required=True, help="a kernel of the experiment")
    _trial_options(run)
    target(run)
    run.set_defaults(verb="run")

    matrix = commands.add_parser(
        "matrix", help="scenarios x kernels x preemption models x CPUs, in one table"
    )
    matrix.add_argument("matrix", nargs="?", help="a YAML file or a built-in name (default: fits the tree)")
    matrix.add_argument(
        "--scenario", action="append", default=[], dest="scenarios", metavar="NAME",
        help="only this scenario of the matrix (repeatable)",
    )  # fmt: skip
    matrix.add_argument(
        "--kernel", action="append", default=[], dest="kernels", metavar="NAME",
        help="only this kernel of the matrix (repeatable)",
    )  # fmt: skip
    matrix.add_argument("--trials", type=int, metavar="N", help="trials a cell, of all scenarios")
    matrix.add_argument(
        "--tree", help="debian[:PACKAGE], tarball:URL#sha256=HEX, git:URL[@REV] or folder:PATH"
    )
    matrix.add_argument(
        "--plan", action="store_true", help="say what would be run and what not, and run nothing"
    )
    matrix.add_argument("--resume", type=Path, metavar="FOLDER", help="go on with an interrupted matrix")
    make_jobs(matrix)
    places(matrix)
    target(matrix)
    matrix.add_argument("--json", action="store_true", help="one JSON object on standard output")
    folders(matrix)
    matrix.set_defaults(verb="matrix")

    nightly = commands.add_parser(
        "nightly", help="follows trees night after night: what is new, what moved, and since which revision"
    )
    nightly.add_argument("night", type=Path, help="a YAML file, as ci/nightly.yaml")
    nightly.add_argument("--json", action="store_true", help="one JSON object on standard output")
    folders(nightly)
    nightly.set_defaults(verb="nightly")

    bisect = commands.add_parser(
        "bisect", help="which commit, patch or symbol brought a bug that shows only sometimes"
    )
    bisect.add_argument(
        "--good", action="append", default=[], metavar="REV", help="a revision without the bug"
    )
    bisect.add_argument("--bad", metavar="REV", help="a revision with it (default: the tree's, or HEAD)")
    bisect.add_argument(
        "--path",
        action="append",
        default=[],
        dest="paths",
        metavar="PATH",
        help="only commits that touch this",
    )
    bisect.add_argument(
        "--skip", action="append", default=[], dest="skips", metavar="REV|A..B", help="do not test these"
    )
    bisect.add_argument("--first-parent", action="store_true", help="follow merges on their own side only")
    bisect.add_argument("--confidence", type=confidence, default=0.99, help="(default: %(default)s)")
    bisect.add_argument(
        "--method", choices=["classic", "bayes"], default="classic",
        help="clean trials until good, or what tells most per second (default: %(default)s)",
    )  # fmt: skip
    what = bisect.add_mutually_exclusive_group()
    what.add_argument(
        "--bisect-patches", nargs="+", dest="series", metavar="FILE",
        help="which patch of a series, on top of --tree",
    )  # fmt: skip
    what.add_argument(
        "--bisect-config", action="store_true", dest="symbols",
        help="which Kconfig symbol: --good and --bad are files of settings",
    )  # fmt: skip
    _kernel_options(bisect)
    bisect.add_argument("--kernel", help="a kernel of the experiment, whose patches go on every commit")
    _trial_options(bisect)
    bisect.set_defaults(verb="bisect")

    boot = commands.add_parser("boot", help="a shell in the guest")
    _kernel_options(boot)
    boot.add_argument("kernel", help="a kernel of the experiment")
    _boot_options(boot)
    cache_folder(boot)
    boot.set_defaults(verb="boot")

    classify = commands.add_parser("classify", help="what a console log says, offline")
    classify.add_argument("files", nargs="+", type=Path, metavar="FILE")
    classify.add_argument("--json", action="store_true", help="one JSON object a file")
    classify.set_defaults(verb="classify")

    selftest = commands.add_parser("selftest", help="makes guests fail on purpose: is every failure noticed?")
    _kernel_options(selftest)
    selftest.add_argument(
        "--kernel", default="base", help="a kernel of the experiment (default: %(default)s)"
    )
    selftest.add_argument(
        "--case",
        action="append",
        default=[],
        dest="cases",
        metavar="NAME",
        help="this case only (repeatable)",
    )
    selftest.add_argument("--cases-file", type=Path, metavar="FILE", help="other cases, in the same form")
    selftest.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    selftest.add_argument("--json", action="store_true", help="one JSON object on standard output")
    _boot_options(selftest)
    folders(selftest)
    selftest.set_defaults(verb="selftest")

    replay = commands.add_parser("replay", help="a trial of --clock virtual again, compared byte by byte")
    replay.add_argument("trial", type=Path, metavar="RUN/trials/TRIAL", help="the folder of a trial")
    replay.add_argument("--gdb", action="store_true", help="a debugger in the guest, stopped at the onset")
    replay.add_argument("--json", action="store_true", help="one JSON object on standard output")
    cache_folder(replay)
    replay.set_defaults(verb="replay")

    diagnose = commands.add_parser("diagnose", help="who waits for whom in a kernel's memory image, offline")
    diagnose.add_argument("vmcore", type=Path, metavar="VMCORE", help="an ELF core or kdump file, .zst too")
    diagnose.add_argument("--vmlinux", type=Path, required=True, help="the kernel that ran, with DWARF")
    diagnose.add_argument(
        "--module", action="append", default=[], dest="modules", type=Path, metavar="FILE",
        help="a module with DWARF (*.ko, *.ko.debug)",
    )  # fmt: skip
    diagnose.add_argument("--json", action="store_true", help="one JSON object on standard output")
    diagnose.add_argument("--svg", type=Path, metavar="FILE", help="draw the cycle, or the longest chain")
    diagnose.set_defaults(verb="diagnose")

    siblings = commands.add_parser(
        "siblings", help="searches kernel source for the bug's shape: retried at once, without waiting"
    )
    siblings.add_argument("tree", nargs="?", metavar="TREE", help="as --tree takes it (default: the newest)")
    siblings.add_argument(
        "--patch",
        action="append",
        default=[],
        metavar="FILE|ID",
        help="search with this patch in (repeatable)",
    )
    siblings.add_argument(
        "--path", action="append", default=[], dest="paths", metavar="PATH",
        help="only this file or folder of the tree (repeatable; default: all of it)",
    )  # fmt: skip
    siblings.add_argument("--json", action="store_true", help="one JSON object on standard output")
    cache_folder(siblings)
    siblings.set_defaults(verb="siblings")

    add_result_verbs(commands)

    listing = commands.add_parser(
        "list", help="scenarios, patches, experiments and matrices that there are; or all about one"
    )
    listing.add_argument(
        "what", nargs="?", metavar="NAME",
        help="one of them; or scenarios, patches, experiments or matrices (default: a line for each of all)",
    )  # fmt: skip
    listing.add_argument("--json", action="store_true", help="one JSON object on standard output")
    listing.set_defaults(verb="list")

    doctor = commands.add_parser("doctor", help="what this machine lacks, and how to mend it")
    doctor.add_argument("--json", action="store_true")
    target(doctor)
    folders(doctor)
    doctor.set_defaults(verb="doctor")

    completion = commands.add_parser(
        "completion", help="a script that completes verbs and options for a shell"
    )
    completion.add_argument("shell", choices=["bash", "zsh", "fish"])
    completion.set_defaults(verb="completion")

    finish(top)
    return top


def _kernel_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--experiment", help="where the kernel is defined (default: the built-in one that has it)"
    )
    command.add_argument("--patch", action="append", default=[], metavar="FILE", help="a further patch")


def _trial_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--scenario", metavar="NAME", help="what is provoked (default: trylock-starvation)")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="KEY=VALUE",
        help="a scenario parameter",
    )
    command.add_argument("--seed", type=int, metavar="N", help="first seed (default: 1)")
    command.add_argument("--json", action="store_true", help="one JSON object on standard output")
    _boot_options(command)
    folders(command)


def _boot_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--preempt", choices=["none", "voluntary", "full", "lazy"], help="the guest's preemption model"
    )
    command.add_argument("--cpus", type=int, metavar="N", help="CPUs of the guest")
    command.add_argument("--memory-mb", type=int, metavar="N", help="memory of the guest, MiB")
    command.add_argument("--machine", choices=["auto", "microvm", "q35"], help="QEMU's machine")
    command.add_argument(
        "--accel", choices=["auto", "tcg", "kvm"], help="auto: KVM if a guest boots on it, else emulation"
    )
    command.add_argument(
        "--clock", choices=["host", "virtual"], help="virtual: a trial repeats exactly (default: host)"
    )
    command.add_argument(
        "--tree", help="debian[:PACKAGE], tarball:URL#sha256=HEX, git:URL[@REV] or folder:PATH"
    )
    command.add_argument(
        "--fragment", action="append", default=[], dest="fragments", metavar="NAME",
        help="kernels with these settings of qemu/kconfig, too, as in --fragment debug (repeatable)",
    )  # fmt: skip
    make_jobs(command)
