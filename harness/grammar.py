# SPDX-License-Identifier: GPL-2.0-only
"""What all verbs of the command line have: --quiet, examples below their help; and how to go through them."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

from harness.examples import EXAMPLES

PROGRAM = "hmm-harness"


class Help(argparse.HelpFormatter):
    """Help that fits the terminal, but for examples: these keep their lines."""

    def _format_usage(self, *words: Any) -> str:
        lines = textwrap.wrap(super()._format_usage(*words), self._width, subsequent_indent=" " * 7)
        return "\n".join(lines) + "\n\n"

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if not text.startswith("examples:"):
            return super()._fill_text(text, width, indent)
        return "\n".join(
            line if line.startswith(f"  {PROGRAM}") else "\n".join(_hanging(line, width))
            for line in text.splitlines()
        )


def _hanging(line: str, width: int) -> list[str]:
    lead = " " * (len(line) - len(line.lstrip()))
    return textwrap.wrap(line, width, subsequent_indent=lead) or [""]


def finish(top: argparse.ArgumentParser) -> None:
    """Give every verb what all have."""
    for name, command in verbs(top).items():
        command.add_argument("-q", "--quiet", action="store_true", help="the result only, no progress")
        command.formatter_class = Help
        command.usage = _usage(command)
        command.epilog = "\n".join(["examples:", *_examples(name)])


def _usage(command: argparse.ArgumentParser) -> str:
    """What has to be given and what can be; the options, which are many, are below it."""
    formatter = command._get_formatter()
    words = ["%(prog)s [OPTION ...]"]
    for action in command._actions:
        if action.required and action.option_strings:
            words.append(f"{action.option_strings[0]} {formatter._format_args(action, action.dest.upper())}")
    for action in command._actions:
        if not action.option_strings:
            words.append(formatter._format_args(action, action.dest))
    return " ".join(words)


def _examples(verb: str) -> list[str]:
    return [
        line for words, does in EXAMPLES.get(verb, ()) for line in (f"  {PROGRAM} {words}", f"      {does}")
    ]


def verbs(top: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parser of each verb, in the order of the help."""
    (action,) = (one for one in top._actions if isinstance(one, argparse._SubParsersAction))
    return dict(action.choices)


def purposes(top: argparse.ArgumentParser) -> dict[str, str]:
    """What the list of verbs says of each."""
    (action,) = (one for one in top._actions if isinstance(one, argparse._SubParsersAction))
    return {choice.dest: choice.help or "" for choice in action._get_subactions()}
