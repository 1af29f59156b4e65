# SPDX-License-Identifier: GPL-2.0-only
"""A box that is not fit, or not the one that is meant: said at once, and it is left as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm.box.box import Box, Installed
from tests.vm.box.login import login, said
from tests.vm.conftest import harness

pytestmark = [pytest.mark.box, pytest.mark.vm]

#: Never built here: a box is looked at first.
FIXED = ("--experiment", "linux-6.12", "--fragment", "box", "--kernel", "trylock-with-wait")


def test_a_wrong_host_key_is_an_error_and_nothing_is_sent(
    box: Box, installed: Installed, tmp_path: Path
) -> None:
    (tmp_path / "known").write_text(
        f"[127.0.0.1]:{box.ports['ssh']} {(installed.folder / 'id.pub').read_text()}"
    )
    ssh = {**box.target["ssh"], "known_hosts": str(tmp_path / "known")}
    target = box.write_target("wrong-key.yaml", ssh=ssh)
    with login(box) as client:
        boot = said(client, "cat /proc/sys/kernel/random/boot_id")
        ran = harness("run", *FIXED, "--target", str(target), out=tmp_path / "runs")
        assert ran.status == 2 and "host key" in ran.err, ran
        # It may be somebody else's box: hands off its console and its switch.
        assert said(client, "cat /proc/sys/kernel/random/boot_id") == boot


def test_a_full_disk_is_found_before_anything_is_built(box: Box, tmp_path: Path) -> None:
    with login(box) as client:
        said(client, "sudo -n sh -c 'fallocate -l $(($(stat -f -c %a*%S /) - 1000000)) /full'")
        try:
            ran = harness("run", *FIXED, "--target", str(box.target_file), out=tmp_path / "runs")
            assert ran.status == 3 and "room" in ran.err and "0 MiB free on /" in ran.err, ran
        finally:
            said(client, "sudo -n rm /full")
