# SPDX-License-Identifier: GPL-2.0-only
"""When a silence means something: every limit of the detection, with its unit and its reason."""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.guest.protocol import Hello

#: Guest time of one round of init's calibration loop, ns: 2.3 to 2.5 on two quiet cores, under TCG.
REFERENCE_NS = 2.5
#: A guest ten times as slow is still waited for; twenty times is a host that no test should run on.
MAX_SLOWNESS = 20.0


@dataclass(frozen=True)
class Thresholds:
    """The limits, in order: suspicion comes before the kernel's own report, that before the stall.

    All times are host seconds in which the guest could run (`harness.watch.quiet`).
    """

    #: No counter moved: the guest hangs, whatever else is seen. From the scenario.
    stall_s: float
    #: The latest that the kernel reports a soft lockup, by the guest's clock: it does not slow with the host.
    soft_lockup_s: float = 3.4
    #: A CPU stays in the kernel and no counter moves: look. Ten progress messages come in this time, and an
    #: iteration on a quiet machine takes a tenth of it. A look in vain costs the guest a pause of 0.3 s.
    suspect_s: float = 1.0
    #: Samples that must agree, however far apart they came: at five a second, one may be missing.
    suspect_samples: int = 4
    #: After a look that proved nothing, the wait before the next; it doubles each time until a counter moves.
    look_again_s: float = 2.0
    #: Less than this share of a time, and the host did not let the guest run: what it says of that time is
    #: not the kernel's fault.
    starved_ratio: float = 0.5
    #: How far a kernel's report that gives no time of its own speaks of, s: the longest of its watchdogs.
    report_s: float = 10.0
    #: A sample that is later than this: the host held up QEMU itself, or it would have answered.
    late_s: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.suspect_s < self.soft_lockup_s < self.stall_s:
            raise ValueError(
                f"out of order: suspicion after {self.suspect_s:g} s, the kernel's soft lockup after "
                f"{self.soft_lockup_s:g} s, stall after {self.stall_s:g} s"
            )

    @classmethod
    def of(cls, stall_s: float, watchdog_thresh_s: float) -> Thresholds:
        """For a scenario's stall limit and a guest's `watchdog_thresh`.

        A CPU is soft-locked after twice `watchdog_thresh`; the check runs five times in that time, by a
        clock of whole seconds (kernel/watchdog.c: `get_softlockup_thresh`, `set_sample_period`). The limit is
        raised if it would cut off the kernel's report.
        """
        soft_lockup_s = 2.4 * watchdog_thresh_s + 1.0
        return cls(stall_s=max(stall_s, soft_lockup_s + 1.0), soft_lockup_s=soft_lockup_s)

    def scaled(self, slowness: float) -> Thresholds:
        """For a guest that is so many times as slow as the reference.

        The suspicion stays before the kernel's report.
        """
        return replace(
            self,
            stall_s=self.stall_s * slowness,
            suspect_s=min(self.suspect_s * slowness, max(self.suspect_s, self.soft_lockup_s / 2)),
            look_again_s=self.look_again_s * slowness,
        )


def slowness(hello: Hello) -> float:
    """How many times as slow as the reference the guest is, 1 to MAX_SLOWNESS; 1 if it did not say."""
    if hello.calibration_loops <= 0 or hello.calibration_ms <= 0 or REFERENCE_NS <= 0:
        return 1.0
    ns = hello.calibration_ms * 1e6 / hello.calibration_loops
    return min(max(ns / REFERENCE_NS, 1.0), MAX_SLOWNESS)
