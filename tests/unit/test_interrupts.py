# SPDX-License-Identifier: GPL-2.0-only
"""An interrupt is late, never lost."""

from __future__ import annotations

import signal
import threading

import pytest

from harness.interrupts import interrupts_deferred


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_interrupts_at_the_end_of_the_block(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts_deferred():
        signal.raise_signal(number)
        done.append("the rest of the block")
    assert done and signal.getsignal(number) is before


def test_an_error_of_the_block_is_kept() -> None:
    with pytest.raises(ValueError, match="first"), interrupts_deferred():
        signal.raise_signal(signal.SIGINT)
        raise ValueError("first")


def test_another_thread_just_runs() -> None:
    ran = []

    def work() -> None:
        with interrupts_deferred():
            ran.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ran
