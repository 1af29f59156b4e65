# SPDX-License-Identifier: GPL-2.0-only
"""KVM or TCG: a `/dev/kvm` that opens proves nothing, only a guest that ran does."""

from __future__ import annotations

import json
import os
import platform
import re
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from harness.cache import Cache, digest
from harness.deadline import Deadline
from harness.disk import disk_errors, write_atomically
from harness.errors import InfraError
from harness.guest.initramfs import write_initramfs
from harness.guest.probe import MARK, probe_entries
from harness.progress import Progress
from harness.target.protocol import Accel, BootPlan, ConsoleData, GuestEnded, Machine
from harness.target.qemu import QEMU_LOG, QemuTarget, qemu_version

DEVICE = Path("/dev/kvm")
#: A guest on a KVM that works says its line in about a second; so long, KVM would be no gain.
PROBE_S = 15.0


@dataclass(frozen=True)
class KvmAnswer:
    """Whether a guest runs on KVM here, and how that was seen."""

    works: bool
    why: str


def choose_accel(
    wanted: Literal["auto", "tcg", "kvm"],
    kernel: Path,
    machine: Machine,
    cache: Cache,
    progress: Progress,
    deadline: Deadline,
) -> Accel:
    """The accelerator to use. `auto` takes KVM if a guest runs on it, else TCG, and says why in one line.

    `kernel` is what the probe boots. Raises InfraError if `kvm` is wanted and does not run a guest.
    """
    if wanted == "tcg":
        return "tcg"
    answer = kvm_answer(kernel, machine, cache, progress, deadline)
    if answer.works:
        return "kvm"
    if wanted == "kvm":
        raise InfraError(f"KVM: {answer.why}", hint="set `accel` to auto or tcg")
    progress.note(f"KVM: {answer.why}; using TCG")
    return "tcg"


def kvm_answer(
    kernel: Path, machine: Machine, cache: Cache, progress: Progress, deadline: Deadline
) -> KvmAnswer:
    """Whether KVM runs `kernel`; booted once for each host kernel and QEMU, then read from the cache.

    Silence is no answer to keep: a guest that was not there in time may only have had a busy host.
    """
    closed = _device_closed()
    if closed:
        return KvmAnswer(False, closed)
    with cache.lock("kvm", deadline, progress.note):
        known = known_answer(cache, machine)
        if known:
            return known
        with progress.step("does KVM run a guest?"):
            answer, definite = _boot_on_kvm(kernel, machine, deadline)
        if definite:
            write_atomically(_record(cache, machine), json.dumps(asdict(answer)).encode() + b"\n")
        return answer


def known_answer(cache: Cache, machine: Machine) -> KvmAnswer | None:
    """What an earlier boot on this host kernel and QEMU found, without booting. None: nothing yet."""
    closed = _device_closed()
    if closed:
        return KvmAnswer(False, closed)
    try:
        found = json.loads(_record(cache, machine).read_text(encoding="utf-8"))
        return KvmAnswer(bool(found["works"]), str(found["why"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _record(cache: Cache, machine: Machine) -> Path:
    key = digest([platform.release(), platform.version(), platform.machine(), qemu_version(), machine])
    return cache.folder("kvm") / f"{key[:20]}.json"


def _device_closed() -> str:
    """Why /dev/kvm cannot be used at all; empty if it opens."""
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return f"no {DEVICE}"
    except PermissionError:
        return f"{DEVICE}: permission denied (is the user in the group kvm?)"
    except OSError as error:
        return f"{DEVICE}: {error.strerror}"
    return ""


def _boot_on_kvm(kernel: Path, machine: Machine, deadline: Deadline) -> tuple[KvmAnswer, bool]:
    """The answer, and whether it is definite: a guest ran, or QEMU said why none does."""
    limit = deadline.sooner(PROBE_S)
    with disk_errors(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory(prefix="hmm-kvm-") as name:
        folder = Path(name)
        plan = BootPlan(
            kernel=kernel,
            initramfs=write_initramfs(folder / "initramfs.cpio", probe_entries()),
            machine=machine,
            accel="kvm",
            memory_mb=96,
        )
        console = b""
        ended: GuestEnded | None = None
        log = folder / "guest" / QEMU_LOG
        try:
            with QemuTarget(sample_s=None).boot(plan, folder / "guest", deadline) as guest:
                while not limit.expired and ended is None and MARK.strip() not in console:
                    match guest.next_event(limit.sooner(0.2)):
                        case ConsoleData(_, data):
                            console += data
                        case GuestEnded() as event:
                            ended = event
                    if _failure(log):
                        break
        except InfraError:
            # A QEMU that says why it does without KVM may end with a status that is an error elsewhere.
            if not log.exists() or not _failure(log):
                raise
        failure = _failure(log)
    if MARK.strip() in console:
        return KvmAnswer(True, "a guest ran"), True
    if not failure and deadline.expired:
        raise InfraError("no time left to try KVM", hint="raise the time limit, or set `accel` to tcg")
    definite = bool(failure)
    if not failure:
        failure = f"QEMU ended with status {ended.status}" if ended else f"not there after {PROBE_S:.0f} s"
    return KvmAnswer(False, f"{DEVICE} opens but a guest does not run ({failure})"), definite


def _failure(log: Path) -> str:
    """What QEMU itself said went wrong, in a few words; warnings are none."""
    text = log.read_text(encoding="utf-8", errors="replace")
    if "KVM internal error" in text:
        return "emulation failure" if "emulation failure" in text else "KVM internal error"
    found = re.search(r"^qemu-system-\S+: (?!warning|terminating)(?:error: )?(.*)", text, re.MULTILINE)
    return found[1].strip()[:100] if found else ""
