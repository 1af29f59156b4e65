# SPDX-License-Identifier: GPL-2.0-only
"""For all tests."""

from __future__ import annotations

import signal

# A shell that starts the tests in the background ignores SIGINT, and programs inherit that: Ctrl-C is tested.
signal.signal(signal.SIGINT, signal.default_int_handler)
