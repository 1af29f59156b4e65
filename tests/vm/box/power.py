#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""The lab's power command: `power.py FOLDER on|off|cycle|status`. Knows the lab by its socket alone."""

from __future__ import annotations

import socket
import sys
from pathlib import Path


def tell(folder: Path, *words: str, timeout_s: float = 60.0) -> str:
    """What the lab answers to a command. OSError if it does not, RuntimeError if it could not do it."""
    with socket.socket(socket.AF_UNIX) as lab:
        lab.settimeout(timeout_s)
        lab.connect(str(folder / "control"))
        lab.sendall((" ".join(words) + "\n").encode())
        with lab.makefile() as answer:
            said = answer.readline().strip()
    if not said or said.startswith("failed: "):
        raise RuntimeError(said or "the lab is gone")
    return said


if __name__ == "__main__":
    try:
        print(tell(Path(sys.argv[1]), "power", sys.argv[2]))
    except (OSError, RuntimeError) as error:
        sys.exit(f"power: {error}")
