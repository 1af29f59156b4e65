# SPDX-License-Identifier: GPL-2.0-only
"""The manual page, hmm-harness(1), from the command line's grammar: `python -m harness.manual` prints it.

The standard library alone is needed: wheels are built without anything else (ci/wheel_hook.py).
"""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
import time
from collections.abc import Iterator

from harness import __version__
from harness.cache import default_cache_folder
from harness.cli import EXIT_STATUS, parser
from harness.examples import EXAMPLES
from harness.grammar import PROGRAM, purposes, verbs
from harness.results.database import default_store

#: Longest line of the source.
_LINE = 78

_ENVIRONMENT = (
    ("XDG_CACHE_HOME", "Where the cache is kept; else ~/.cache."),
    ("XDG_STATE_HOME", "Where the store is kept; else ~/.local/state."),
    ("NO_COLOR", "If set and not empty: no colours."),
    ("FORCE_COLOR", "If set and not empty: colours even where the output is no terminal."),
    ("TERM", "Of a terminal that is dumb or unknown nothing is redrawn."),
    ("COLUMNS", "How wide help, tables and reports may be, if the terminal does not say."),
)
_FILES = (
    ("~/.cache/hmm-harness", "Kernel source, builds, modules. Deleting it is always safe."),
    ("~/.local/state/hmm-harness/store.sqlite", "What ran, for history and show."),
    ("./runs", "The evidence, a folder a run."),
)


def manual() -> str:
    """The page as roff."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    top = parser()
    told = purposes(top)
    yield f'.TH HMM\\-HARNESS 1 "{_day()}" "hmm\\-harness {_escaped(__version__)}" "User Commands"'
    yield from (
        ".SH NAME",
        f"hmm\\-harness \\- {_escaped('provokes livelocks of hmm_range_fault(), and proves them')}",
    )
    yield from (".SH SYNOPSIS", ".B hmm\\-harness", "\\fIVERB\\fR [\\fIOPTION\\fR ...]")
    yield from (".SH DESCRIPTION", _escaped(top.description or ""))
    yield _escaped(
        "Builds a kernel with and without a change, boots both in QEMU, and compares how often they hang."
    )
    yield ".SH VERBS"
    for name, command in verbs(top).items():
        yield from _verb(name, command, told[name])
    yield from (".SH EXIT STATUS", _escaped(EXIT_STATUS))
    for title, rows in (("ENVIRONMENT", _ENVIRONMENT), ("FILES", _FILES)):
        yield f".SH {title}"
        for name, text in rows:
            yield from (".TP", f".B {_escaped(name)}", _escaped(text))


def _verb(name: str, command: argparse.ArgumentParser, purpose: str) -> Iterator[str]:
    yield f".SS {_escaped(name)}"
    yield _escaped(f"{purpose[:1].upper()}{purpose[1:]}.")
    for action in command._actions:
        if action.help != argparse.SUPPRESS and action.dest != "help":
            yield from (".TP", _invocation(action, command), _help(action, command))
    examples = EXAMPLES.get(name, ())
    for example in examples:
        yield from (".PP", f".RS 4\n{_escaped(example.does[:1].upper() + example.does[1:])}:", ".PP")
        yield from (".RS 4", f".B {_escaped(f'{PROGRAM} {example.words}')}", ".RE", ".RE")


def _invocation(action: argparse.Action, command: argparse.ArgumentParser) -> str:
    formatter = command._get_formatter()
    if not action.option_strings:
        (word,) = formatter._metavar_formatter(action, action.dest)(1)
        return f"\\fI{_escaped(word)}\\fR"
    words = [f"\\fB{_escaped(word)}\\fR" for word in action.option_strings]
    value = "" if action.nargs == 0 else formatter._format_args(action, action.dest.upper())
    return ", ".join(words) + (f" \\fI{_escaped(value)}\\fR" if value else "")


def _help(action: argparse.Action, command: argparse.ArgumentParser) -> str:
    text = command._get_formatter()._expand_help(action) if action.help else ""
    # Where this page is made is not where it is read.
    for place, said in ((default_store(), _FILES[1][0]), (default_cache_folder(), _FILES[0][0])):
        text = text.replace(str(place), said)
    return _escaped(text) or "\\&"


def _day() -> str:
    """When the page was made; of a build that is to be repeated, what it says of itself."""
    return time.strftime("%Y-%m-%d", time.gmtime(float(os.environ.get("SOURCE_DATE_EPOCH", time.time()))))


def _escaped(text: str) -> str:
    """Text as roff shows it: hyphens that can be copied, and no line that begins like a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("`", "\\(ga")
    text = "\n".join(
        textwrap.wrap(text.replace("^", "\\(ha"), _LINE, break_on_hyphens=False, break_long_words=False)
    )
    return "\n".join(f"\\&{line}" if line[:1] in (".", "'") else line for line in text.split("\n"))


if __name__ == "__main__":
    sys.stdout.write(manual())
