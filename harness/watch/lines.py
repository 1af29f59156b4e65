# SPDX-License-Identifier: GPL-2.0-only
"""Console bytes to lines: split across reads, cleaned, and with their prefixes read off.

Prefix formats: kernel/printk/printk.c (`print_time`, `print_caller`, `console_prepend_dropped`), dmesg(1) and
journalctl(1) (`short` and `short-iso`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

#: Bytes of a line that are kept; a kernel record is at most 2048 (PRINTKRB_RECORD_MAX).
MAX_LINE = 4096

_ESCAPES = re.compile(
    r"\x1b\[[0-9;:?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC: window titles
    r"|\x1b[ -/]*[0-~]"  # the rest: reset, charset
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_SYSLOG = re.compile(
    r"^(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d+)?|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S*) "
    r"[^\s:]+ (?P<ident>[^\s:\[]+)(?:\[\d+\])?: "
)
_KMSG = re.compile(r"^\d{1,4},\d+,(?P<us>\d+),[^;]{0,80};")
_LEVEL = re.compile(r"^(?:<\d{1,3}>|(?:kern|user|daemon|auth|syslog) *:[a-z]+ *: ?)+")
_ISO_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[,.]\d+\S* ")
_WALL_TIME = re.compile(r"^\[[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}\] ?")
_TIME = re.compile(r"\[ *(?P<time>\d+\.\d{6})\] ?")
# With one character lost or doubled anywhere in it.
_TIME_DAMAGED = re.compile(r"^\W{0,10}(?P<time>\d+\.{0,2}\d{4,7})\]{0,2} {0,2}")
_CALLER = re.compile(r"^\[ *(?P<caller>[TC]\d+)\] ?")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a console.

    `number` counts newlines from 1, as an editor does; `host_s` is when its end was read. `time_s` and
    `caller` are what the kernel put before the text (None: it did not). `kernel` is false for user space.
    """

    number: int
    host_s: float
    time_s: float | None
    caller: str | None
    text: str
    kernel: bool


class LineSplitter:
    """Collects reads into lines; keeps at most MAX_LINE bytes, takes time linear in what it is fed."""

    def __init__(self) -> None:
        self._number = 0
        self._part = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, str]]:
        """The lines that `data` ends, as (number, text); a carriage return ends a line but counts none."""
        *ended, rest = data.split(b"\n")
        for piece in ended:
            self._keep(piece)
            yield from self._take()
        self._keep(rest)

    def close(self) -> Iterator[tuple[int, str]]:
        """The line that no newline ended, if there is one."""
        if self._part:
            yield from self._take()

    def _keep(self, piece: bytes) -> None:
        room = MAX_LINE - len(self._part)
        if room > 0:
            self._part += piece[:room]

    def _take(self) -> Iterator[tuple[int, str]]:
        self._number += 1
        text = self._part.decode("utf-8", errors="replace")
        self._part.clear()
        for part in text.split("\r"):
            clean = _CONTROL.sub("", _ESCAPES.sub("", part)).rstrip()
            if clean:
                yield self._number, clean


class PrefixReader:
    """Reads prefixes off lines; knows from what it has seen which lines the kernel wrote.

    A console whose kernel puts a time stamp or a caller before its lines carries other lines too: what
    programs write. Those are told apart by the missing prefix: a log that a program prints is no news.
    """

    def __init__(self) -> None:
        self._stamped = False

    def read(self, number: int, host_s: float, text: str) -> Line:
        """The line without its prefixes."""
        time_s: float | None = None
        caller: str | None = None
        sign = False
        syslog = _SYSLOG.match(text)
        if syslog:
            text = text[syslog.end() :]
            if syslog["ident"] != "kernel":
                return Line(number, host_s, None, None, text, kernel=False)
            sign = True
        kmsg = _KMSG.match(text)
        if kmsg:
            time_s, text, sign = int(kmsg["us"]) / 1e6, text[kmsg.end() :], True
        for wrapper in (_LEVEL, _ISO_TIME, _WALL_TIME):
            found = wrapper.match(text)
            if found:
                text, sign = text[found.end() :], True
        # Text that no newline ended (a prompt, the note of dropped messages) can stand before it.
        stamp = _TIME.search(text, 0, 512)
        if stamp is None and self._stamped:
            stamp = _TIME_DAMAGED.match(text)
        if stamp:
            time_s, text, sign = _seconds(stamp["time"]), text[stamp.end() :], True
        found = _CALLER.match(text)
        if found:
            caller, text, sign = found["caller"], text[found.end() :], True
        self._stamped = self._stamped or sign
        return Line(number, host_s, time_s, caller, text, kernel=sign or not self._stamped)


def _seconds(text: str) -> float | None:
    """A time stamp, or None if it is damaged beyond reading."""
    try:
        return float(text) if "." in text else None
    except ValueError:
        return None
