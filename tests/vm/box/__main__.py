# SPDX-License-Identifier: GPL-2.0-only
"""`python -m tests.vm.box [FOLDER]`: a box to try things on, until Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
from pathlib import Path

from harness.cache import Cache, default_cache_folder
from harness.deadline import Deadline
from harness.display import make_progress

from .box import Installed, box_in_lab
from .image import box_disk


def main(folder: Path) -> None:
    deadline = Deadline.after(900)
    with contextlib.closing(make_progress(sys.stderr)) as progress:
        common = box_disk(Cache(default_cache_folder()), progress, deadline)
    installed = Installed.create(common, folder / "installed", deadline)
    with box_in_lab(installed, folder / "box", deadline) as box:
        ssh = box.target["ssh"]
        known = f"-o UserKnownHostsFile={ssh['known_hosts']}"
        print(f"target:   {box.target_file}")
        print(f"log in:   ssh -i {ssh['key']} {known} -p {ssh['port']} {ssh['user']}@{ssh['host']}")
        print(f"console:  telnet 127.0.0.1 {box.ports['telnet']}")
        print(f"all said: {box.folder / 'console.log'}")
        print(f"power:    {' '.join(box.target['power']['status'])}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]).resolve())
    else:
        with tempfile.TemporaryDirectory(prefix="box-") as name:
            main(Path(name))
