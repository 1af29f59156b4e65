# SPDX-License-Identifier: GPL-2.0-only
"""The question put to a memory image: does somebody wait in a circle, and what proves it?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.diagnose.edges import build_graph, task_id
from harness.diagnose.facts import Facts, Spin
from harness.diagnose.graph import Edge, WaitGraph, find_cycles, guesses, longest_chain, rotated
from harness.diagnose.image import MemoryImage
from harness.diagnose.preemption import stand
from harness.diagnose.read import read_facts
from harness.watch.examination import Proof

#: A circle counts once each of its edges has stood for this long, s of the guest's time: a kernel that is
#: about to go to sleep looks like one that spins, for microseconds.
SETTLED_S = 0.25
#: Who spins has faulted this often for each page it wants, and this often in all: some ten milliseconds of
#: spinning (2 million a second were measured under emulation).
REPEATS = 16
FAULTS = 20000


@dataclass(frozen=True)
class Diagnosis:
    """What an image says.

    `cycle`: the circle from the spinner on, empty without one. `chain`: the cycle, or else the longest chain
    of waiters. `gaps`: what is missing between `partial` and `cycle`, or could not be read. `frames`: the
    functions of the task that spins (or of the one on the CPU that is waited for), innermost first. `entry`:
    the page table's entry that it spins on; empty if none is known.
    """

    proof: Proof
    title: str
    cycle: tuple[Edge, ...]
    chain: tuple[Edge, ...]
    gaps: tuple[str, ...]
    frames: tuple[str, ...]
    graph: WaitGraph
    facts: Facts
    entry: str = ""
    #: What the reading took, s.
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "proof": self.proof,
            "title": self.title,
            "gaps": list(self.gaps),
            "frames": list(self.frames),
            "entry": self.entry,
            "cycle": [asdict(edge) for edge in self.cycle],
            "chain": [asdict(edge) for edge in self.chain],
            "nodes": [asdict(node) for node in self.graph.nodes],
            "edges": [asdict(edge) for edge in self.graph.edges],
            "facts": asdict(self.facts),
            "seconds": round(self.seconds, 3),
        }


def diagnose(image: MemoryImage) -> Diagnosis:
    """Read an image and follow the waiters. What cannot be read is a gap; nothing is raised."""
    begin = time.monotonic()
    try:
        facts = read_facts(image)
    except Exception as error:  # noqa: BLE001 - memory may hold anything
        facts = Facts(gaps=(f"the reading broke off: {type(error).__name__}: {error}",))
    return conclude(facts, seconds=time.monotonic() - begin)


def conclude(facts: Facts, seconds: float = 0.0) -> Diagnosis:
    """The answer that the facts give. Pure."""
    graph = build_graph(facts)
    cycles = sorted(find_cycles(graph), key=lambda cycle: bool(_doubts(facts, cycle)))
    cycle = _told(facts, cycles[0]) if cycles else ()
    doubts = _doubts(facts, cycle) if cycle else []
    gaps = list(graph.gaps)
    proof: Proof = "none"
    if cycle and not doubts:
        proof = "partial" if guesses(cycle) else "cycle"
        gaps = [f"derived, not stored: {edge.text}" for edge in cycle if edge.sure != "data"] + gaps
    elif cycle:
        gaps = doubts + gaps
    elif _starved(facts, graph):
        proof = "partial"
    chain = cycle or longest_chain(graph)
    spinner = _spinner(facts, chain)
    return Diagnosis(
        proof=proof,
        title=_title(proof, graph, cycle, chain),
        cycle=cycle if proof != "none" else (),
        chain=chain,
        gaps=tuple(gaps),
        frames=_frames(facts, spinner),
        graph=graph,
        facts=facts,
        entry=next((spin.entry for spin in facts.spins if spin.pid == spinner), ""),
        seconds=seconds,
    )


def _doubts(facts: Facts, cycle: Sequence[Edge]) -> list[str]:
    """Why a circle might be one for a moment only."""
    known = [edge for edge in cycle if edge.since_s is not None]
    doubts = [
        f"a circle, but it has stood for {edge.since_s:.3f} s only ({edge.text})"
        for edge in known
        if edge.since_s is not None and edge.since_s < SETTLED_S
    ]
    if not known:
        doubts.append("a circle, but how long it has stood is not known")
    sources = {edge.source for edge in cycle}
    for spin in facts.spins:
        if task_id(spin.pid) in sources and not _repeats(facts, spin):
            doubts.append(f"task {spin.pid} has not faulted often enough on its range to call it spinning")
    return doubts


def _repeats(facts: Facts, spin: Spin) -> bool:
    least = max(FAULTS, REPEATS * spin.pages)
    return any(task.pid == spin.pid and task.faults >= least for task in facts.tasks)


def _starved(facts: Facts, graph: WaitGraph) -> bool:
    """A task spins, cannot be preempted by a fair one, and the holder of what it wants has slept for long."""
    tasks = {task.pid: task for task in facts.tasks}
    cpus = {cpu.cpu: cpu for cpu in facts.cpus}
    for spin in facts.spins:
        task = tasks.get(spin.pid)
        cpu = cpus.get(task.cpu) if task else None
        if task is None or cpu is None or not _repeats(facts, spin):
            continue
        if task.on_cpu_s is not None and task.on_cpu_s < SETTLED_S:
            continue
        holders = [tasks[hold.pid] for hold in facts.holds if hold.pfn == spin.pfn and hold.pid in tasks]
        asleep = any((holder.off_cpu_s or 0.0) >= SETTLED_S for holder in holders if not holder.on_cpu)
        if asleep and stand(facts.model, cpu, task, "fair").keeps and _open_end(graph, task_id(spin.pid)):
            return True
    return False


def _open_end(graph: WaitGraph, start: str) -> bool:
    """Nowhere along the way from `start` is somebody who would give way or is about to run."""
    seen: set[str] = set()
    todo = [start]
    while todo:
        at = todo.pop()
        if at in seen:
            continue
        seen.add(at)
        for edge in graph.edges_from(at):
            if not edge.blocks:
                return False
            todo.append(edge.target)
    return True


def _told(facts: Facts, cycle: tuple[Edge, ...]) -> tuple[Edge, ...]:
    """The circle from the one who spins on, else from a task on."""
    first = next((edge.source for edge in cycle if edge.source.startswith("task:")), "")
    cycle = rotated(cycle, first)
    for spin in facts.spins:
        cycle = rotated(cycle, task_id(spin.pid))
    return cycle


def _spinner(facts: Facts, chain: Sequence[Edge]) -> int | None:
    """The task on the chain that spins; else the last one on it that runs; None without one."""
    on_chain = {edge.source for edge in chain} | {edge.target for edge in chain}
    for spin in facts.spins:
        if task_id(spin.pid) in on_chain:
            return spin.pid
    on_cpu = {task_id(task.pid): task.pid for task in facts.tasks if task.on_cpu and task.stack}
    for edge in reversed(chain):
        if edge.target in on_cpu:
            return on_cpu[edge.target]
    return None


def _frames(facts: Facts, pid: int | None) -> tuple[str, ...]:
    return next((tuple(f.function for f in task.stack) for task in facts.tasks if task.pid == pid), ())


def _title(proof: Proof, graph: WaitGraph, cycle: Sequence[Edge], chain: Sequence[Edge]) -> str:
    if proof == "none":
        if cycle:
            return "no cycle that lasts"
        if not chain:
            return "no cycle, nobody waits"
        end = graph.node(chain[-1].target).label
        return (
            f"no cycle; the longest chain: {graph.node(chain[0].source).label} to {end}, {len(chain)} edges"
        )
    way = cycle or chain
    names = " -> ".join(graph.node(edge.source).label for edge in way)
    spins = any(edge.kind == "spins on" for edge in way)
    kind = "livelock" if spins else "deadlock"
    return f"{kind}: {names}" + (f" -> {graph.node(way[-1].target).label}" if cycle else " -> ?")
