# SPDX-License-Identifier: GPL-2.0-only
"""Did you mean ...?"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """The known word closest to a misspelt one; empty if none is close."""
    close = get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return close[0] if close else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean X?)` for the closest known word, or nothing."""
    close = nearest(word, known)
    return f" (did you mean {close}?)" if close else ""
