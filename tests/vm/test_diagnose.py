# SPDX-License-Identifier: GPL-2.0-only
"""The wait-for cycle, read from guests that livelock, and its absence in those that do not."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest
import zstandard

from harness.deadline import Deadline
from harness.diagnose.diagnosis import Diagnosis, diagnose
from harness.diagnose.elf import read_elf
from harness.diagnose.evidence import Limits, collect
from harness.diagnose.image import SymbolFiles, open_live
from harness.diagnose.text import cycle_text
from harness.experiment.kernels import BootableKernel
from harness.experiment.stage import machine_of
from harness.experiment.trial import Stage, boot_plan, guest_entries
from harness.guest.initramfs import write_initramfs
from harness.guest.plan import Exec, Insmod, PowerOff
from harness.guest.protocol import Iteration, parse_line
from harness.scenario.catalogue import scenario_values
from harness.target.protocol import AgentLine, Guest, GuestEnded
from harness.target.qemu import QemuTarget
from tests.vm.conftest import HARNESS, Kernels, Ran
from tests.vm.guests import PATIENCE_S, wait_for_hello

pytestmark = pytest.mark.vm

#: The livelock's edges, from the spinner on.
KINDS = ("spins on", "held by", "waits for", "queued on", "served by", "needs", "occupied by")


@dataclass
class Running:
    """A guest that runs the stressor."""

    guest: Guest
    kernel: BootableKernel
    folder: Path
    looks: int = 0
    ended: bool = False
    #: Iterations in which all conditions of the bug met.
    windows: int = 0

    @property
    def symbols(self) -> SymbolFiles:
        return SymbolFiles(self.kernel.build.vmlinux, (self.kernel.programs.module_debug,))

    def look(self) -> Diagnosis:
        """Freeze the guest, read its memory, and let it go on."""
        self.looks += 1
        self.guest.pause()
        try:
            with open_live(self.guest.memory_address, self.guest.registers(), self.symbols) as image:
                return diagnose(image)
        finally:
            self.guest.resume()

    def wait(self, seconds: float) -> None:
        """Let it run, and note what it says."""
        deadline = Deadline.after(seconds)
        while not deadline.expired and not self.ended:
            event = self.guest.next_event(deadline)
            self.ended = self.ended or isinstance(event, GuestEnded)
            message = parse_line(event.text) if isinstance(event, AgentLine) else None
            if isinstance(message, Iteration) and message.window and message.window.hit:
                self.windows += 1

    def until_proven(self) -> Diagnosis:
        deadline = Deadline.after(PATIENCE_S)
        while not self.ended and not deadline.expired:
            self.wait(0.3)
            found = self.look()
            if found.proof != "none":
                return found
        raise AssertionError(f"no proof in {self.looks} looks; ended: {self.ended}")


@contextmanager
def stressed(
    kernels: Kernels, arm: str, folder: Path, preempt: str = "none", iterations: int = 200, **values: object
) -> Iterator[Running]:
    """The experiment's scenario on the kernel of an arm."""
    experiment = kernels.experiment
    kernel = kernels.by_name[experiment.arms[arm].kernel]
    boot = experiment.boot.model_copy(update={"preempt": preempt, "watchdog_thresh_s": 20})
    _, defaults = scenario_values(experiment)
    wanted = {**defaults, **values, "iterations": iterations}
    argv = (experiment.scenario, *(f"{key}={value}" for key, value in wanted.items()), "seed=1")
    steps = (Insmod("/hmm_harness.ko"), Exec("/hmm-stressor", argv), PowerOff())
    image = write_initramfs(folder / "initramfs.cpio", guest_entries(kernel.programs, steps))
    stage = Stage(QemuTarget(), machine_of(experiment), "tcg")
    plan = boot_plan(kernel, boot, stage, image)
    with QemuTarget().boot(plan, folder, Deadline.after(PATIENCE_S * 2)) as guest:
        wait_for_hello(guest)
        yield Running(guest, kernel, folder)


def check_cycle(found: Diagnosis) -> None:
    assert (found.proof, found.gaps) == ("cycle", ()), cycle_text(found)
    assert tuple(edge.kind for edge in found.cycle) == KINDS
    for edge, following in zip(found.cycle, (*found.cycle[1:], found.cycle[0]), strict=True):
        assert edge.target == following.source and edge.sure == "data" and edge.blocks
        assert edge.evidence and all(edge.evidence)
    nodes = [found.graph.node(edge.source) for edge in found.cycle]
    assert [node.kind for node in nodes] == ["task", "folio", "task", "work", "pool", "task", "cpu"]
    assert "locked, device private" in nodes[1].facts
    assert nodes[3].label == "lru_add_drain_per_cpu" and nodes[6].label == "CPU 1"
    assert found.cycle[1].evidence[-1].endswith("MIGRATE_PFN_MIGRATE")
    assert any(name.startswith("hmm_range_fault") for name in found.frames)
    text = cycle_text(found)
    assert len(text) == 6 and max(map(len, text)) <= 78, text


@dataclass(frozen=True)
class Saved:
    """A livelock as it was diagnosed live, and its memory image."""

    found: Diagnosis
    image: Path
    vmlinux: Path
    module: Path

    def verb(self, *words: str, image: Path | None = None, vmlinux: Path | None = None) -> Ran:
        """`hmm-harness diagnose`, offline."""
        argv = [str(HARNESS), "diagnose", str(image or self.image), "--vmlinux", str(vmlinux or self.vmlinux)]
        done = subprocess.run([*argv, *words], capture_output=True, text=True, timeout=60, check=False)
        return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def saved(newest: Kernels, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    folder = tmp_path_factory.mktemp("livelock")
    with stressed(newest, "unfixed", folder) as running:
        found = running.until_proven()
        image = folder / "memory.elf.zst"
        running.guest.save_memory(image, Deadline.after(PATIENCE_S))
    return Saved(found, image, running.symbols.vmlinux, running.symbols.modules[0])


def test_a_livelock_is_proven_live(saved: Saved) -> None:
    check_cycle(saved.found)


def test_its_memory_image_proves_it_again(saved: Saved, tmp_path: Path) -> None:
    picture = tmp_path / "cycle.svg"
    ran = saved.verb("--module", str(saved.module), "--json", "--svg", str(picture))
    assert ran.status == 1, ran.err
    offline = ran.json
    assert offline["proof"] == "cycle" and [edge["kind"] for edge in offline["cycle"]] == list(KINDS)
    # The spinner may be at another page of its range by then.
    live = [edge.source for edge in saved.found.cycle if not edge.source.startswith("folio:")]
    assert [edge["source"] for edge in offline["cycle"] if not edge["source"].startswith("folio:")] == live
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")


def test_without_the_modules_symbols_the_kernels_own_suffice(
    saved: Saved, base_kernel: BootableKernel
) -> None:
    ran = saved.verb("--module", str(base_kernel.programs.module_debug), "--json")
    assert ran.status == 1, ran.err
    assert any("no symbols for module hmm_harness" in gap for gap in ran.json["gaps"])


def test_the_vmlinux_of_another_build_is_refused_with_both_ids(
    saved: Saved, base_kernel: BootableKernel
) -> None:
    ran = saved.verb(vmlinux=base_kernel.build.vmlinux)
    ids = [read_elf(path).build_id for path in (saved.vmlinux, base_kernel.build.vmlinux)]
    assert (ran.status, ran.out) == (2, "") and all(number in ran.err for number in ids)


def test_a_damaged_image_is_refused_or_its_gaps_are_named(saved: Saved, tmp_path: Path) -> None:
    half = tmp_path / "half.zst"
    half.write_bytes(saved.image.read_bytes()[: saved.image.stat().st_size // 2])
    ran = saved.verb(image=half)
    assert ran.status == 2 and "is cut off" in ran.err
    # A page in eleven is lost.
    holes = tmp_path / "holes"
    with saved.image.open("rb") as packed, holes.open("wb") as sink:
        with zstandard.ZstdDecompressor().stream_reader(packed) as reader:
            for number, page in enumerate(iter(lambda: reader.read(4096), b"")):
                if number < 16 or (number % 11 and any(page)):
                    sink.seek(4096 * number)
                    sink.write(page)
        sink.truncate(4096 * number + len(page))
    ran = saved.verb("--module", str(saved.module), image=holes)
    assert ran.status in (0, 1, 2) and "Traceback" not in ran.err, ran.err


def test_a_livelock_of_the_old_tree_is_proven_as_well(linux_6_12: Kernels, tmp_path: Path) -> None:
    """Its spinner is a real-time task."""
    with stressed(linux_6_12, "unfixed", tmp_path) as running:
        check_cycle(running.until_proven())


def test_the_fixed_kernel_is_never_accused(newest: Kernels, tmp_path: Path) -> None:
    with stressed(newest, "fixed", tmp_path) as running:
        chains = looks_without_proof(running, 20)
    assert running.windows
    # Somebody waits for something at one moment or another.
    assert any(chains)


def test_a_spinner_that_can_be_preempted_is_no_livelock(newest: Kernels, tmp_path: Path) -> None:
    with stressed(newest, "unfixed", tmp_path, preempt="full") as running:
        looks_without_proof(running, 20)
    assert running.windows


def looks_without_proof(running: Running, count: int) -> list[int]:
    """Look that many times, each at another moment; how long the longest chains were."""
    chains = []
    running.wait(1.0)
    while running.looks < count and not running.ended:
        running.wait(0.02 + 0.007 * running.looks)
        if running.ended:
            break
        found = running.look()
        assert (found.proof, found.cycle) == ("none", ()), cycle_text(found)
        assert cycle_text(found)[0] == "no cycle"
        chains.append(len(found.chain))
    assert running.looks >= count // 2, "the guest was done too soon"
    return chains


def test_the_evidence_of_a_livelock_is_complete_and_quick(newest: Kernels, tmp_path: Path) -> None:
    with stressed(newest, "unfixed", tmp_path) as running:
        found = running.until_proven()
        manifest = collect(
            running.guest, tmp_path, running.symbols, diagnosis=found, limits=Limits(memory_s=PATIENCE_S)
        )
    folder = tmp_path / "evidence"
    assert json.loads((folder / "evidence.json").read_text()) == json.loads(json.dumps(manifest.as_json()))
    missing = {piece.name: piece.why for piece in manifest.pieces if not piece.there}
    assert not missing
    names = {piece.name for piece in manifest.pieces if (folder / piece.name).is_file()}
    files = "registers.txt stacks.txt diagnosis.json cycle.txt cycle.svg samples.txt memory.elf.zst"
    assert names == set(files.split())
    stacks = (folder / "stacks.txt").read_text()
    assert "migrate_device_unmap mm/migrate_device.c:" in stacks and "hmm_range_fault mm/hmm.c:" in stacks
    console = (tmp_path / "console.log").read_text(errors="replace")
    assert "Show Blocked State" in console and "__flush_work" in console


def test_a_guest_that_is_gone_leaves_what_can_be_had(newest: Kernels, tmp_path: Path) -> None:
    with stressed(newest, "unfixed", tmp_path) as running:
        found = running.until_proven()
        running.guest.stop()
        manifest = collect(running.guest, tmp_path, running.symbols, diagnosis=found)
    pieces = {piece.name: piece for piece in manifest.pieces}
    assert pieces["cycle.txt"].there and pieces["samples.txt"].there
    for name in ("registers.txt", "sysrq-t", "nmi"):
        assert not pieces[name].there and pieces[name].why
