# SPDX-License-Identifier: GPL-2.0-only
"""A box as its YAML file describes it: how it is reached, seen, switched, and given a kernel."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from harness.errors import UserError
from harness.yamlfile import load_yaml

#: How a kernel gets onto a box. `none`: it runs what it runs.
Method = Literal["grub-reboot", "kexec", "none"]


class _Frozen(BaseModel):
    """Read strictly, no unknown keys, never changed afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _endpoint(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError("must be HOST:PORT")
    return text


Endpoint = Annotated[str, AfterValidator(_endpoint)]
#: A command as a list of words; no shell sees it.
Command = Annotated[tuple[str, ...], Field(strict=False, min_length=1)]


def host_and_port(endpoint: str) -> tuple[str, int]:
    """The two parts of an `Endpoint`."""
    host, _, port = endpoint.rpartition(":")
    return host.strip("[]"), int(port)


class Ssh(_Frozen):
    """How to log in. There is no key that is accepted unseen: the host's must be in `known_hosts`."""

    host: Annotated[str, Field(min_length=1)]
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    user: str = "root"
    #: A file with a private key; without one the agent's keys and those in ~/.ssh are tried.
    key: str | None = None
    known_hosts: str = "~/.ssh/known_hosts"
    #: The user is not root, and `sudo -n` lets it do what root does.
    sudo: bool = False


class Console(_Frozen):
    """The serial console, through one of these transports."""

    tcp: Endpoint | None = None
    telnet: Endpoint | None = None
    command: Command | None = None
    tty: str | None = None
    netconsole: Endpoint | None = None
    #: Of a tty, bit/s.
    baud: Annotated[int, Field(ge=1200, le=4_000_000)] = 115200
    #: What a `tcp` or `command` console is sent for a serial break; telnet and a tty know their own.
    break_: Annotated[str | None, Field(alias="break")] = None
    #: `console=` of a test kernel.
    device: Annotated[str, Field(pattern=r"^\S+$")] = "ttyS0,115200"

    @model_validator(mode="after")
    def _one(self) -> Console:
        given = [name for name in ("tcp", "telnet", "command", "tty", "netconsole") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(
                f"a console has one transport, not {' and '.join(given) or 'none'} "
                "(tcp, telnet, command, tty or netconsole)"
            )
        if self.break_ is not None and not (self.tcp or self.command):
            raise ValueError("break: only a tcp or command console needs to be told how")
        return self


class Power(_Frozen):
    """Commands that switch the box; one that exits with 0 has done it."""

    on: Command | None = None
    off: Command | None = None
    cycle: Command | None = None
    #: Prints `on` or `off` as a word.
    status: Command | None = None
    #: Of one command, s.
    timeout_s: Annotated[float, Field(gt=0, le=600, strict=False)] = 30
    #: Attempts after the first.
    retries: Annotated[int, Field(ge=0, le=20)] = 2
    #: Between two attempts, and between off and on, s.
    settle_s: Annotated[float, Field(ge=0, le=120, strict=False)] = 2

    @model_validator(mode="after")
    def _can_cycle(self) -> Power:
        if self.cycle is None and (self.on is None or self.off is None):
            raise ValueError("needs `cycle`, or `on` and `off`: a box that hangs must come back")
        return self


class Boot(_Frozen):
    """How a test kernel is started, once: the box's default entry is never touched."""

    method: Method = "grub-reboot"
    #: Further words for the test kernel's command line.
    cmdline: Annotated[tuple[str, ...], Field(strict=False)] = ()
    #: `root=` of the test kernel; without it, the partition of the root file system.
    root: str | None = None
    #: From reset to SSH, s.
    up_s: Annotated[float, Field(ge=10, le=3600, strict=False)] = 180


class Labgrid(_Frozen):
    """A place of labgrid's, which then says how it is reached, seen and switched."""

    place: str
    #: labgrid's environment file.
    environment: str
    #: labgrid takes any host key; the harness does not.
    known_hosts: str = "~/.ssh/known_hosts"


class BoxConfig(_Frozen):
    """One box."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    ssh: Ssh | None = None
    console: Console | None = None
    power: Power | None = None
    boot: Boot = Boot()
    labgrid: Labgrid | None = None
    #: What the harness puts on the box is here.
    folder: Annotated[str, Field(pattern=r"^/[^\s'\"]+$")] = "/var/lib/hmm-harness"
    #: Where the box's kdump leaves its dumps.
    vmcore: Annotated[str | None, Field(pattern=r"^/\S+$")] = None
    #: The driver of a GPU that scenarios may use.
    gpu: Literal["xe"] | None = None

    @model_validator(mode="after")
    def _reachable(self) -> BoxConfig:
        if self.labgrid and (self.ssh or self.console or self.power):
            raise ValueError("labgrid says how the box is reached: leave out ssh, console and power")
        if not self.labgrid and not self.ssh:
            raise ValueError("a box is reached by `ssh`, or is a `labgrid` place")
        return self


def load_box(path: Path) -> BoxConfig:
    """The box of a file, with paths in it made absolute. UserError with every defect of the file, by line."""
    config = load_yaml(path, BoxConfig)
    return _absolute(config, path.resolve().parent)


def _absolute(config: BoxConfig, folder: Path) -> BoxConfig:
    """Paths are relative to the file, as are programs of commands that are named with a slash."""

    def at(name: str) -> str:
        return str(folder / Path(name).expanduser())

    def program(words: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return (at(words[0]), *words[1:]) if words and "/" in words[0] else words

    changes: dict[str, object] = {}
    missing: list[str] = []
    if config.ssh:
        ssh = config.ssh
        files = {"known_hosts": at(ssh.known_hosts), **({"key": at(ssh.key)} if ssh.key else {})}
        missing += [f"ssh.{key}: no file {path}" for key, path in files.items() if not Path(path).is_file()]
        changes["ssh"] = ssh.model_copy(update=files)
    if config.console and config.console.command:
        changes["console"] = config.console.model_copy(update={"command": program(config.console.command)})
    if config.power:
        names = ("on", "off", "cycle", "status")
        commands = {name: program(getattr(config.power, name)) for name in names}
        changes["power"] = config.power.model_copy(update=commands)
    if config.labgrid:
        files = {key: at(getattr(config.labgrid, key)) for key in ("environment", "known_hosts")}
        missing += [
            f"labgrid.{key}: no file {path}" for key, path in files.items() if not Path(path).is_file()
        ]
        changes["labgrid"] = config.labgrid.model_copy(update=files)
    if missing:
        raise UserError(
            "\n".join(f"box {config.name}: {line}" for line in missing),
            hint="ssh-keyscan -p PORT HOST prints a host's keys; compare them with the host's own first"
            if any(".known_hosts:" in line for line in missing)
            else "paths are relative to the target's file",
        )
    return config.model_copy(update=changes)


#: Words of power commands that are no secret.
_COMMON = frozenset({"chassis", "cycle", "off", "on", "outlet", "power", "reset", "status"})


def masked(text: str, words: tuple[str, ...]) -> str:
    """A command's output without the words it was given, and their parts: a password may be among them."""
    parts = {part for word in words[1:] for part in (word, *re.split(r"[=:@/]", word))}
    for part in sorted(parts - _COMMON, key=len, reverse=True):
        if len(part) > 2:
            text = text.replace(part, "***")
    return text
