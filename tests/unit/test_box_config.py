# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UserError
from harness.target.box.config import load_box

WHOLE = """\
name: lab1
ssh: {host: 10.0.0.7, port: 2222, user: hmm, key: ./key, known_hosts: known_hosts, sudo: true}
console: {telnet: "10.0.0.1:7001"}
power:
  on: [./switch, on]
  off: [./switch, off]
  status: [ipmitool, -E, chassis, power, status]
  timeout_s: 5
boot: {method: kexec, cmdline: [tsc=unstable], up_s: 90}
vmcore: /var/crash
"""


def written(folder: Path, text: str) -> Path:
    for name in ("key", "known_hosts"):
        (folder / name).touch()
    (folder / "lab1.yaml").write_text(text)
    return folder / "lab1.yaml"


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, WHOLE)
    monkeypatch.chdir("/")
    box = load_box(file)
    assert box.ssh and box.power
    assert (box.ssh.key, box.ssh.known_hosts) == (f"{tmp_path}/key", f"{tmp_path}/known_hosts")
    assert box.power.on == (f"{tmp_path}/switch", "on")
    assert box.power.status == ("ipmitool", "-E", "chassis", "power", "status")
    assert box.boot.cmdline == ("tsc=unstable",)
    assert box.boot.method == "kexec"
    assert box.folder == "/var/lib/hmm-harness"


def test_every_defect_at_once_with_its_line(tmp_path: Path) -> None:
    text = """\
name: lab one
ssh: {host: 10.0.0.7, port: 99999, passwort: x}
console:
  tcp: 10.0.0.1
  telnet: "10.0.0.1:7001"
power:
  off: [off]
boot: {methode: kexec}
"""
    with pytest.raises(UserError) as caught:
        load_box(written(tmp_path, text))
    lines = [line.split("lab1.yaml:")[1] for line in caught.value.message.splitlines()]
    assert [line.partition(":")[0] for line in lines] == ["1", "2", "2", "4", "6", "8"], lines
    assert "ssh.passwort: unknown key" in caught.value.message
    assert "console.tcp: must be HOST:PORT" in caught.value.message
    assert "a box that hangs must come back" in caught.value.message
    assert "did you mean 'method'?" in caught.value.message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: lab1\n", "a box is reached by `ssh`"),
        ("name: lab1\nssh: {host: a}\nconsole: {}\n", "a console has one transport, not none"),
        ('name: lab1\nssh: {host: a}\nconsole: {tcp: "a:1", tty: /dev/ttyS0}\n', "not tcp and tty"),
        ('name: lab1\nssh: {host: a}\nconsole: {telnet: "a:1", break: "~B"}\n', "needs to be told how"),
        ("name: lab1\nssh: {host: a, known_hosts: nowhere}\n", "ssh.known_hosts: no file"),
        ("name: lab1\nlabgrid: {place: p, environment: nowhere}\n", "labgrid.environment: no file"),
        ("name: lab1\nssh: {host: a}\nlabgrid: {place: p, environment: e}\n", "leave out ssh"),
    ],
)
def test_what_does_not_fit_together(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        load_box(written(tmp_path, text))
    assert says in caught.value.message
