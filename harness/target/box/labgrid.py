# SPDX-License-Identifier: GPL-2.0-only
"""A place of labgrid's as a box: SSH, console and power as its coordinator has them.

labgrid is spoken to by its own client program: that switches whatever power resource or driver a place has.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from harness.deadline import Deadline
from harness.errors import InfraError, UserError
from harness.process import Completed, run
from harness.target.box.config import BoxConfig, Console, Labgrid, Power, Ssh
from harness.target.box.power import CommandSwitch, PowerSwitch

#: A coordinator that is there answers within a second or two; a power strip may take its time.
ANSWER_S = 60.0
#: Where the coordinator is when nobody says so, as for labgrid-client.
_COORDINATOR = "127.0.0.1:20408"
_MINE = "You have already acquired place"
_NO_POWER = "no compatible resource"


@contextlib.contextmanager
def labgrid_place(config: BoxConfig) -> Iterator[tuple[BoxConfig, PowerSwitch | None]]:
    """The box with `ssh` and `console` filled in, and its switch.

    The place is acquired for the block; if this user has it already, it is left as it is. UserError if
    labgrid is not installed or the place has nothing to log in to, InfraError if it cannot be had.
    """
    place = config.labgrid
    assert place
    if importlib.util.find_spec("labgrid") is None:
        raise UserError(f"box {config.name}: labgrid is not installed", hint="install hmm-harness[labgrid]")
    with _acquired(config.name, place):
        found = _resources(config.name, place)
        parts = {"ssh": _ssh(config.name, place, found), "console": _console(found["resources"])}
        yield config.model_copy(update=parts), _power(config.name, place)


@contextlib.contextmanager
def _acquired(name: str, place: Labgrid) -> Iterator[None]:
    # Given an environment, the client would acquire every place in it.
    coordinator = ["-x", _coordinator(name, place)]
    done = _run([*_client(coordinator, place), "acquire"])
    if not done.ok and _MINE not in done.output:
        raise InfraError(
            f"box {name}: labgrid does not give the place {place.place}: {_last_line(done)}",
            hint="labgrid-client places; labgrid-client -p PLACE show",
        )
    try:
        yield
    finally:
        if done.ok:
            _run([*_client(coordinator, place), "release"])


def _coordinator(name: str, place: Labgrid) -> str:
    from labgrid.config import Config
    from labgrid.exceptions import InvalidConfigError, NoConfigFoundError

    default = os.environ.get("LG_COORDINATOR", _COORDINATOR)
    try:
        return str(Config(place.environment).get_option("coordinator_address", default))
    except (InvalidConfigError, NoConfigFoundError) as error:
        raise UserError(f"box {name}: labgrid's {place.environment}: {error}") from error


def _client(options: list[str], place: Labgrid) -> list[str]:
    return [sys.executable, "-m", "labgrid.remote.client", *options, "-p", place.place]


def _run(argv: list[str]) -> Completed:
    return run(argv, deadline=Deadline.after(ANSWER_S), check=False)


def _last_line(done: Completed) -> str:
    lines = (done.errors or done.output).strip().splitlines()
    return lines[-1] if lines else f"status {done.status}"


def _resources(name: str, place: Labgrid) -> dict[str, Any]:
    module = "harness.target.box.labgrid_resources"
    argv = [sys.executable, "-m", module, place.environment, place.place]
    done = run(argv, deadline=Deadline.after(ANSWER_S), check=False, merge_stderr=False)
    if not done.ok:
        raise InfraError(f"box {name}: what labgrid's place {place.place} has is unknown: {_last_line(done)}")
    found = json.loads(done.output.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def _ssh(name: str, place: Labgrid, found: Mapping[str, Any]) -> Ssh:
    service = found["resources"].get("NetworkService")
    if service is None:
        has = ", ".join(sorted(found["resources"])) or "nothing"
        raise UserError(
            f"box {name}: labgrid's place {place.place} has no NetworkService to log in to (it has {has})",
            hint="export one, and match it to the place",
        )
    return Ssh(
        host=service["address"],
        port=service.get("port", 22),
        user=service["username"],
        key=found["keyfile"] or None,
        known_hosts=place.known_hosts,
        sudo=service["username"] != "root",
    )


def _console(resources: Mapping[str, Any]) -> Console | None:
    serial = resources.get("NetworkSerialPort")
    if serial is None:
        return None
    endpoint = f"{serial['host']}:{serial['port']}"
    # RFC 2217 is telnet with options that a client need not use.
    return Console(tcp=endpoint) if serial.get("protocol") == "raw" else Console(telnet=endpoint)


def _power(name: str, place: Labgrid) -> PowerSwitch | None:
    client = _client(["-c", place.environment], place)
    if _NO_POWER in _run([*client, "power", "get"]).output:
        return None
    on, off, cycle, get = ((*client, "power", word) for word in ("on", "off", "cycle", "get"))
    return CommandSwitch(name, Power(on=on, off=off, cycle=cycle, status=get, timeout_s=ANSWER_S))
