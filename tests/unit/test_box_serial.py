# SPDX-License-Identifier: GPL-2.0-only
"""The test box's terminal server: telnet's commands, cut anywhere."""

from __future__ import annotations

import pytest

from tests.vm.box.serial_port import GREETING, TelnetReader

_SENT = b"a\xff\xf3b\xff\xffc\xff\xfd\x01d\xff\xfa\x18\x00\xff\xff\xff\xf0e\xff\xf3"


@pytest.mark.parametrize("size", [1, 2, 3, len(_SENT)])
def test_telnet_commands_are_taken_out_wherever_they_are_cut(size: int) -> None:
    reader = TelnetReader()
    parts = [reader.read(_SENT[at : at + size]) for at in range(0, len(_SENT), size)]
    assert b"".join(typed for typed, _ in parts) == b"ab\xffcde"
    assert sum(breaks for _, breaks in parts) == 2


def test_a_greeting_that_comes_back_is_nothing_typed() -> None:
    assert TelnetReader().read(GREETING + b"x") == (b"x", 0)
