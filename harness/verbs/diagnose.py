# SPDX-License-Identifier: GPL-2.0-only
"""`hmm-harness diagnose`: 0 if nobody waits in a circle, 1 if somebody does."""

from __future__ import annotations

import argparse
import json

from harness.diagnose.diagnosis import diagnose
from harness.diagnose.image import SymbolFiles, open_vmcore
from harness.diagnose.svg import cycle_svg
from harness.diagnose.text import cycle_text
from harness.disk import write_atomically
from harness.display import Display
from harness.errors import UserError


def main(arguments: argparse.Namespace, display: Display) -> int:
    """Carry the verb out; its exit status."""
    if arguments.svg and not arguments.svg.parent.is_dir():
        raise UserError(f"--svg {arguments.svg}: there is no folder {arguments.svg.parent}")
    symbols = SymbolFiles(arguments.vmlinux, tuple(arguments.modules))
    with open_vmcore(arguments.vmcore, symbols) as image:
        diagnosis = diagnose(image)
    if arguments.json:
        print(json.dumps({**diagnosis.as_json(), "text": cycle_text(diagnosis)}, ensure_ascii=False))
    else:
        display.result(f"proof: {diagnosis.proof}", *cycle_text(diagnosis))
    if arguments.svg:
        write_atomically(arguments.svg, cycle_svg(diagnosis).encode())
    return 0 if diagnosis.proof == "none" else 1
