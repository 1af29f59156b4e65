# SPDX-License-Identifier: GPL-2.0-only
"""The plan that the guest's init carries out: `/plan` in the initramfs, a verb and its words a line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

#: Where init looks for it.
PLAN_PATH = "plan"

#: What init reads of it at most (qemu/init.c): the rest would be cut off, in the middle of a word.
PLAN_BYTES = 65535


@dataclass(frozen=True)
class Sysctl:
    """Write a value below /proc/sys; `name` with slashes, as in `kernel/hung_task_timeout_secs`."""

    name: str
    value: str


@dataclass(frozen=True)
class Write:
    """Write a value to a file of the guest."""

    path: str
    value: str


@dataclass(frozen=True)
class Insmod:
    """Load a module file of the guest, with parameters as `name=value`."""

    path: str
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rmmod:
    """Unload a module by its name."""

    name: str


@dataclass(frozen=True)
class Sleep:
    """Wait, in guest time."""

    seconds: int


@dataclass(frozen=True)
class Print:
    """A file's lines to the kernel's log, and so to the console."""

    path: str


@dataclass(frozen=True)
class Exec:
    """Run a program of the guest to its end; its standard output is the agent's channel."""

    path: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shell:
    """A shell on the console, until it exits."""


@dataclass(frozen=True)
class PowerOff:
    """End the guest."""


Step = Sysctl | Write | Insmod | Rmmod | Sleep | Print | Exec | Shell | PowerOff


def plan_text(steps: Iterable[Step]) -> str:
    """The plan file of these steps.

    ValueError for a word that would not survive being split at spaces, and for more than `PLAN_BYTES`.
    """
    text = "".join(f"{_line(step)}\n" for step in steps)
    if len(text.encode()) > PLAN_BYTES:
        raise ValueError(f"a plan of {len(text.encode())} bytes; init reads {PLAN_BYTES}")
    return text


def _line(step: Step) -> str:
    match step:
        case Sysctl(name, value):
            return f"sysctl {_word(name)} {_rest(value)}"
        case Write(path, value):
            return f"write {_word(path)} {_rest(value)}"
        case Insmod(path, parameters):
            return " ".join(["insmod", *map(_word, (path, *parameters))])
        case Rmmod(name):
            return f"rmmod {_word(name)}"
        case Sleep(seconds):
            return f"sleep {seconds}"
        case Print(path):
            return f"print {_word(path)}"
        case Exec(path, arguments):
            return " ".join(["exec", *map(_word, (path, *arguments))])
        case Shell():
            return "shell"
        case PowerOff():
            return "poweroff"


def _word(text: str) -> str:
    if not text or any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError(f"{text!r} is no single word")
    return text


def _rest(text: str) -> str:
    if not text.isprintable() or text != text.strip() or not text:
        raise ValueError(f"{text!r} is no value on one line")
    return text
