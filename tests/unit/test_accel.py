# SPDX-License-Identifier: GPL-2.0-only
"""Which answers on KVM are kept: a program by QEMU's name gives each kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cache import Cache
from harness.deadline import Deadline
from harness.errors import InfraError
from harness.target import accel, qemu
from harness.target.accel import KvmAnswer, known_answer, kvm_answer
from tests.unit.kernelroom import Notes

REFUSED = "ioctl(KVM_CREATE_VM) failed: 16 Device or resource busy"


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a QEMU in front of the path that boots a guest by running these lines of shell."""
    (tmp_path / "kvm").touch()
    monkeypatch.setattr(accel, "DEVICE", tmp_path / "kvm")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def write(body: str) -> None:
        program = tmp_path / qemu.PROGRAM
        program.write_text(
            "#!/bin/sh\n"
            'case "$*" in\n'
            '-machine?help) echo "microvm   a machine"; exit;;\n'
            '--version) echo "a version"; exit;;\n'
            f"esac\n{body}\n",
            encoding="utf-8",
        )
        program.chmod(0o755)
        qemu.machines.cache_clear()

    return write


@pytest.fixture
def ask(tmp_path: Path) -> Callable[[], tuple[KvmAnswer, KvmAnswer | None]]:
    """Ask whether KVM works: the answer, and what is kept of it."""
    kernel = tmp_path / "vmlinux"
    kernel.write_bytes(b"kernel")
    cache = Cache(tmp_path / "cache")

    def answer() -> tuple[KvmAnswer, KvmAnswer | None]:
        try:
            given = kvm_answer(kernel, "microvm", cache, Notes(), Deadline.after(60))
            return given, known_answer(cache, "microvm")
        finally:
            qemu.machines.cache_clear()

    return answer


Says = Callable[[str], None]
Ask = Callable[[], tuple[KvmAnswer, KvmAnswer | None]]


def test_a_guest_that_was_only_late_is_asked_for_again(
    says: Says, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    says("exec sleep 60")
    with monkeypatch.context() as patience:
        patience.setattr(accel, "PROBE_S", 0.05)
        answer, kept = ask()
    assert not answer.works
    assert "not there after" in answer.why
    assert kept is None
    says(f'echo "qemu-system-x86_64: {REFUSED}" >&2; exec sleep 60')
    answer, kept = ask()
    assert REFUSED in answer.why
    assert kept == answer


def test_a_qemu_that_refuses_and_ends_is_an_answer(says: Says, ask: Ask) -> None:
    says(f'echo "qemu-system-x86_64: {REFUSED}" >&2; exit 1')
    answer, kept = ask()
    assert not answer.works
    assert REFUSED in answer.why
    assert kept == answer


def test_a_qemu_that_ends_without_a_word_is_a_fault_of_the_machine(says: Says, ask: Ask) -> None:
    says("exit 1")
    with pytest.raises(InfraError, match="QEMU failed with status 1: it said nothing"):
        ask()
