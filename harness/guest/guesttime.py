# SPDX-License-Identifier: GPL-2.0-only
"""Whether a guest's time passes at a rate its kernel can live with; asked on the virtual clock only.

There, an instruction takes a fixed time. Too long a one, and the kernel's own work takes longer than its
watchdogs allow: it reports lockups that are none. Too short a one, and a real lockup takes minutes of ours.
"""

from __future__ import annotations

from harness.errors import InfraError
from harness.guest.protocol import Hello

#: Guest time of one round of init's calibration loop, ns. Measured: 25 at QEMU's icount shift 3, 51 at 4,
#: 101 at 5, 216 at 6, 421 at 7; 889 at 8, where a guest no longer shuts down.
SANE_NS = (10.0, 500.0)


def round_ns(hello: Hello) -> float:
    """Guest time of one round of init's calibration loop, ns. InfraError if the guest has not measured it."""
    if hello.calibration_loops <= 0 or hello.calibration_ms <= 0:
        raise InfraError(
            "guest time is not sane: the guest has not measured how fast it runs",
            hint="its init is older than this program: build it again",
        )
    return hello.calibration_ms * 1e6 / hello.calibration_loops


def check_guest_time(hello: Hello) -> None:
    """InfraError if guest time is out of proportion to what the guest executes in it."""
    took = round_ns(hello)
    low, high = SANE_NS
    if not low <= took <= high:
        fast = "fast" if took > high else "slowly"
        raise InfraError(
            f"guest time is not sane: it passes too {fast}, {took:.3g} ns for a round of init's loop",
            hint=f"it should be {low:.0f} to {high:.0f} ns: see SHIFT in harness/target/icount.py",
        )
