# SPDX-License-Identifier: GPL-2.0-only
"""`hmm-harness export`: 0 if all of the run is written, 2 if something of it cannot be read."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.disk import write_atomically
from harness.display import Display
from harness.errors import UserError
from harness.results.formats import FORMATS
from harness.results.formats.options import Options
from harness.results.naming import folder_named
from harness.results.reading import load_run
from harness.suggest import did_you_mean


def main(arguments: argparse.Namespace, display: Display) -> int:
    """Carry the verb out; its exit status."""
    name: str = arguments.format
    if name not in FORMATS:
        raise UserError(
            f"no format {name!r}{did_you_mean(name, FORMATS)}", hint=f"one of: {', '.join(FORMATS)}"
        )
    target: Path | None = arguments.output
    if target and not target.parent.is_dir():
        raise UserError(f"-o {target}: there is no folder {target.parent}")
    run = load_run(folder_named(arguments.run, arguments.store))
    if run.removed:
        print(f"warning: {run.removed}", file=sys.stderr)
    for what in run.damaged:
        print(f"warning: {what}", file=sys.stderr)
    text = FORMATS[name](run, Options(arguments.mbox, arguments.sender, arguments.origin))
    # A guest may say what is no character; \udcff is right in JSON, too.
    data = text.encode("utf-8", errors="backslashreplace")
    if target:
        write_atomically(target, data)
    else:
        display.stream.write(data.decode())
        display.stream.flush()
    return UserError.exit_code if run.damaged else 0
