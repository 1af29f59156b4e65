# SPDX-License-Identifier: GPL-2.0-only
"""A box with everything that leads to it, for one harness at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from harness.cache import Cache, default_cache_folder
from harness.deadline import Deadline
from harness.errors import InfraError
from harness.target.box.config import BoxConfig
from harness.target.box.console import BoxConsole
from harness.target.box.labgrid import labgrid_place
from harness.target.box.machine import Box
from harness.target.box.power import CommandSwitch, PowerSwitch


@contextlib.contextmanager
def held_box(config: BoxConfig, console_note: Callable[[str], None] = lambda text: None) -> Iterator[Box]:
    """A box that no other harness of this user has by now, with its console open.

    `console_note` hears when the console is closed, or open again. InfraError if another harness has the box,
    ConsoleClosed if its console cannot be opened.
    """
    with contextlib.ExitStack() as stack:
        power: PowerSwitch | None = None
        if config.labgrid:
            config, power = stack.enter_context(labgrid_place(config))
        elif config.power:
            power = CommandSwitch(config.name, config.power)
        assert config.ssh
        lock = f"box-{config.ssh.host}-{config.ssh.port}".replace("/", "-")
        try:
            stack.enter_context(Cache(default_cache_folder()).lock(lock, Deadline.after(0.0)))
        except InfraError as error:
            raise InfraError(
                f"box {config.name} is used by another harness", hint="wait until that has ended"
            ) from error
        console = BoxConsole(config.name, config.console, console_note) if config.console else None
        box = Box(config, config.ssh, console, power)
        stack.callback(box.close)
        yield box
