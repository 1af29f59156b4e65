# SPDX-License-Identifier: GPL-2.0-only
"""The two ways a run can fail without saying anything about a kernel."""


class HarnessError(Exception):
    """A message, and a hint that says what to do about it.

    `exit_code` is what the program ends with when nobody handles the error.
    """

    exit_code = 3

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UserError(HarnessError):
    """Bad input: the user can mend it. Exit code 2."""

    exit_code = 2


class InfraError(HarnessError):
    """A fault of the machine (no disk, no QEMU, dead guest): never a verdict. Exit code 3."""

    exit_code = 3
