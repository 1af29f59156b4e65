# SPDX-License-Identifier: GPL-2.0-only
"""doctor --target, against this machine's user space."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli import main
from harness.target.box import preflight
from tests.unit.boxroom import ssh_server


def found(capsys: pytest.CaptureFixture[str], file: Path) -> tuple[int, dict[str, dict[str, Any]]]:
    status = main(["doctor", "--target", str(file), "--json"])
    return status, {finding["what"]: finding for finding in json.loads(capsys.readouterr().out)}


def test_whose_line_it_is_and_whose_kernels_it_boots(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    lines = {name: tmp_path / name for name in ("its own", "another")}
    for line in lines.values():
        line.touch()
    tools = tmp_path / "tools"
    tools.mkdir()
    # What is written to the box's /dev/ttyS0 comes out at the far end of its line.
    (tools / "tee").write_text(f"#!/bin/sh\ncat >> '{lines['its own']}'\n")
    (tools / "tee").chmod(0o755)
    (tmp_path / "secure").write_bytes(bytes((6, 0, 0, 0, 1)))
    monkeypatch.setattr(preflight, "SECURE_BOOT", str(tmp_path / "secure"))
    file = tmp_path / "lab1.yaml"
    with ssh_server(tmp_path, PATH=f"{tools}:/usr/bin:/bin:/usr/sbin:/sbin") as server:
        for name, ok in (("its own", True), ("another", False)):
            box = {
                "name": "lab1",
                "ssh": server.ssh.model_dump(),
                "console": {"command": ["tail", "-n", "0", "-f", str(lines[name])]},
                "boot": {"method": "kexec"},
                "folder": str(tmp_path / "box"),
            }
            file.write_text(yaml.safe_dump(box))
            monkeypatch.setattr(preflight, "_MARK_S", 20.0 if ok else 0.2)
            _, findings = found(capsys, file)
            assert findings["console"]["ok"] is ok, findings["console"]
        assert findings["console"]["detail"] == "what is written to /dev/ttyS0 does not come"
        assert findings["boot by kexec"]["detail"].startswith("Secure Boot is on")


def test_each_thing_and_how_to_mend_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "depmod").symlink_to("/bin/true")  # where the tests run there need be none
    with ssh_server(tmp_path, PATH=f"{tools}:/usr/bin:/bin:/usr/sbin:/sbin") as server:
        box = {
            "name": "lab1",
            "ssh": {**server.ssh.model_dump(), "sudo": False},
            "console": {"tcp": "127.0.0.1:1"},
            "power": {"cycle": ["true"], "status": ["echo", "it is", "on"]},
            "boot": {"method": "none"},
            "folder": str(tmp_path / "box"),
        }
        file = tmp_path / "lab1.yaml"
        file.write_text(yaml.safe_dump(box))
        status, findings = found(capsys, file)
        assert status == 3
        assert [findings[what]["ok"] for what in ("SSH", "programs", "room")] == [True] * 3, findings
        assert findings["power"]["detail"] == "it is on"
        assert findings["boot by none"]["ok"]
        assert "cannot open the console: Connection refused" in findings["console"]["detail"]
        assert findings["console"]["mend"]
        del box["console"]
        file.write_text(yaml.safe_dump(box))
        status, findings = found(capsys, file)
        assert (status, findings["console"]["needed"]) == (0, False)
    status, findings = found(capsys, file)
    assert status == 3 and "does not answer" in findings["SSH"]["detail"]
