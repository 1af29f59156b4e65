# SPDX-License-Identifier: GPL-2.0-only
"""What a guest said, made fit to be shown: a console is hostile input for whoever displays it."""

from __future__ import annotations

import re

#: Control characters but tab and newline; what turns the direction of text round or hides in it; halves of
#: surrogate pairs; what XML 1.0 does not take.
_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\ud800-\udfff]"
)


def plain(text: str) -> str:
    """The text with every character that is not shown as itself written as `\\xNN` or `\\uNNNN`."""
    return _UNFIT.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
