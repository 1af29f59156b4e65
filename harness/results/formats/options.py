# SPDX-License-Identifier: GPL-2.0-only
"""What a format may be told beyond the run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """A format takes what concerns it."""

    #: The mail that is replied to: one mail, or an mbox of a thread.
    mbox: Path | None = None
    #: Who replies, as `Name <address>`; empty: as git is configured.
    sender: str = ""
    #: The name under which the results are published (KCIDB).
    origin: str = "hmm_harness"
