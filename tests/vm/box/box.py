# SPDX-License-Identifier: GPL-2.0-only
"""A box for a test: keys made for it, a disk of its own on top of the common one, and the lab around it."""

from __future__ import annotations

import contextlib
import json
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from harness.deadline import Deadline
from harness.process import run, running, start

from .image import PARTITION_AT
from .power import tell

POWER = Path(__file__).resolve().parent / "power.py"


@dataclass(frozen=True)
class Installed:
    """A disk that lets in whoever has `folder`/id, and is known by `folder`/host.pub."""

    folder: Path

    @property
    def disk(self) -> Path:
        return self.folder / "disk.raw"

    @classmethod
    def create(cls, common: Path, folder: Path, deadline: Deadline) -> Installed:
        """Copy the common disk and put new keys in."""
        folder.mkdir(parents=True, exist_ok=True)
        installed = cls(folder)
        run(["cp", "--sparse=always", str(common), str(installed.disk)], deadline=deadline)
        for name in ("id", "host"):
            private, public = _key_pair()
            (folder / name).write_bytes(private)
            (folder / name).chmod(0o600)
            (folder / f"{name}.pub").write_bytes(public + b"\n")
        # An unset one would make every boot a first boot.
        (folder / "machine-id").write_text(f"{uuid.uuid4().hex}\n")
        commands = [
            "rm /etc/machine-id",
            *_put(folder / "machine-id", "/etc/machine-id", 0o444, 0),
            *_put(folder / "host", "/etc/ssh/ssh_host_ed25519_key", 0o600, 0),
            *_put(folder / "host.pub", "/etc/ssh/ssh_host_ed25519_key.pub", 0o644, 0),
            *_put(folder / "id.pub", "/home/lab/.ssh/authorized_keys", 0o600, 1000),
        ]
        (folder / "commands").write_text("\n".join(commands) + "\n")
        argv = [
            "/usr/sbin/debugfs",
            "-w",
            "-f",
            str(folder / "commands"),
            f"{installed.disk}?offset={PARTITION_AT}",
        ]
        run(argv, deadline=deadline)
        return installed


def _key_pair() -> tuple[bytes, bytes]:
    key = Ed25519PrivateKey.generate()
    return (
        key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
        key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
    )


def _put(file: Path, place: str, mode: int, owner: int) -> list[str]:
    """debugfs's commands that write a file."""
    return [
        f"write {file} {place}",
        f"sif {place} mode {0o100000 | mode:#o}",
        f"sif {place} uid {owner}",
        f"sif {place} gid {owner}",
    ]


@dataclass(frozen=True)
class Box:
    """A box in its lab. What a test may know of it beyond the target's file is how to break things."""

    folder: Path
    ports: Mapping[str, int]
    target: Mapping[str, Any]

    @property
    def target_file(self) -> Path:
        """As `--target` takes it."""
        return self.folder / "box.yaml"

    @property
    def console(self) -> str:
        """Everything the box ever said on its serial line."""
        return (self.folder / "console.log").read_text(encoding="utf-8", errors="replace")

    def write_target(self, name: str, **changed: Any) -> Path:
        """A target file like the box's own, some of its keys replaced; without those that are None."""
        whole = {key: value for key, value in {**self.target, **changed}.items() if value is not None}
        file = self.folder / name
        file.write_text(yaml.safe_dump(whole, sort_keys=False))
        return file

    def tell(self, *words: str) -> str:
        """A command to the lab itself (lab.py)."""
        return tell(self.folder, *words)


def target_of(folder: Path, installed: Installed, ports: Mapping[str, int]) -> dict[str, Any]:
    """The box as its owner would describe it."""
    power = [sys.executable, str(POWER), str(folder)]
    return {
        "name": "box",
        "ssh": {
            "host": "127.0.0.1",
            "port": ports["ssh"],
            "user": "lab",
            "key": str(installed.folder / "id"),
            "known_hosts": str(folder / "known_hosts"),
            "sudo": True,
        },
        "console": {"telnet": f"127.0.0.1:{ports['telnet']}"},
        "power": {word: [*power, word] for word in ("on", "off", "cycle", "status")},
        "boot": {"method": "grub-reboot", "up_s": 180},
    }


@contextlib.contextmanager
def box_in_lab(installed: Installed, folder: Path, deadline: Deadline) -> Iterator[Box]:
    """A box that is switched on, not yet up. It ends with the block, and with this process."""
    folder.mkdir(parents=True, exist_ok=True)
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(installed.disk)]
    run([*argv, str(folder / "disk.qcow2")], deadline=deadline)
    with (folder / "lab.log").open("wb") as log:
        lab = start([sys.executable, "-m", "tests.vm.box.lab", str(folder)], cwd=POWER.parents[3], stdout=log)
    with running(lab):
        while not (folder / "lab.json").exists():
            assert lab.poll() is None and not deadline.expired, (folder / "lab.log").read_text()
            time.sleep(0.05)
        ports = json.loads((folder / "lab.json").read_text())
        host_key = (installed.folder / "host.pub").read_text()
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{ports['ssh']} {host_key}")
        box = Box(folder, ports, target_of(folder, installed, ports))
        box.write_target(box.target_file.name)
        box.tell("power", "on")
        yield box
