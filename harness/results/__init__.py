# SPDX-License-Identifier: GPL-2.0-only
"""Runs as they are kept: their folders, the store, reports and formats."""

from typing import Final

#: Of all records and of what `--json` prints. A key that goes or changes raises it, a new one does not.
SCHEMA: Final = 1
