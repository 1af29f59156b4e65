# SPDX-License-Identifier: GPL-2.0-only
"""One file a verb of the command line: `main(arguments, display)` does it and returns the exit status."""
