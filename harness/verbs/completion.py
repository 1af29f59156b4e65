# SPDX-License-Identifier: GPL-2.0-only
"""`hmm-harness completion`: the script is printed, 0."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.cli import parser
from harness.config import builtin_experiments, known_fragments
from harness.display import Display
from harness.errors import InfraError
from harness.experiment.kernels import known_kernels
from harness.grammar import verbs
from harness.kernel.patches import Catalogue
from harness.matrix.model import builtin_matrices
from harness.results.formats import FORMATS
from harness.scenario.catalogue import scenario_names
from harness.selftest.cases import load_cases
from harness.verbs.list import listed_words
from harness.watch.kinds import OutcomeKind


def main(arguments: argparse.Namespace, display: Display) -> int:
    """Carry the verb out; its exit status."""
    display.stream.write(script(arguments.shell))
    return 0


def script(shell: str) -> str:
    """What the shell has to read. InfraError without the library that writes it."""
    try:
        shtab = importlib.import_module("shtab")
    except ImportError as error:
        raise InfraError("shtab is not installed", hint="pip install 'hmm-harness[completion]'") from error
    top = parser()
    for command in verbs(top).values():
        for action in command._actions:
            _complete(action, shtab)
    return str(shtab.complete(top, shell)).rstrip() + "\n"


#: What a word of the command line can be, by what the parser calls it.
_WORDS: Mapping[str, Callable[[], Iterable[str]]] = {
    "scenario": scenario_names,
    "scenarios": scenario_names,
    "kernel": known_kernels,
    "kernels": known_kernels,
    "fragments": known_fragments,
    "cases": lambda: [case.name for case in load_cases()],
    "format": lambda: FORMATS,
    "outcome": lambda: map(str, OutcomeKind),
    "what": listed_words,
    "of": lambda: verbs(parser()),
}
#: The same of words that may be files as well.
_OR_FILE: Mapping[str, Callable[[], Iterable[str]]] = {
    "experiment": builtin_experiments,
    "matrix": builtin_matrices,
    "patch": lambda: Catalogue.load().ids,
    "try_patch": lambda: Catalogue.load().ids,
    "series": tuple,
}
_FOLDERS = ("run", "trial", "out", "cache")


def _complete(action: Any, shtab: Any) -> None:
    """Tell shtab what the values of an option or argument are."""
    if action.nargs == 0 or action.choices:
        return
    if action.dest in _WORDS:
        action.choices = list(_WORDS[action.dest]())
    elif action.dest in _OR_FILE:
        action.complete = _or_file(action.dest, " ".join(_OR_FILE[action.dest]()))
    elif action.metavar == "FOLDER" or action.dest in _FOLDERS:
        action.complete = shtab.DIRECTORY
    elif action.type is Path:
        action.complete = shtab.FILE


def _or_file(name: str, words: str) -> dict[str, Any]:
    """These words, or a file, as shtab takes it."""
    function = f"_hmm_harness_{name}"
    body = f'compgen -W "{words}" -- "$1"; compgen -f -- "$1"'
    return {
        "bash": function,
        "zsh": f"{{compadd -- {words}; _files}}" if words else "_files",
        "fish": f"{words} (__fish_complete_path (commandline -ct))",
        "preamble": {"bash": f"{function}() {{ {body}; }}"},
    }
