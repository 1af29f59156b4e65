# SPDX-License-Identifier: GPL-2.0-only
"""Facts to the wait-for graph. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from harness.diagnose.facts import (
    CpuFact,
    Facts,
    FolioFact,
    Hold,
    PoolFact,
    Spin,
    TaskFact,
    Wait,
    WorkFact,
)
from harness.diagnose.graph import Edge, Node, Sure, WaitGraph
from harness.diagnose.preemption import stand

#: Calls by which a reader knows where a spinner or a holder is.
_LANDMARKS = frozenset(
    {"hmm_range_fault", "hmm_range_fault_unlocked_timeout", "lru_add_drain_all", "migrate_vma_setup"}
)


def build_graph(facts: Facts) -> WaitGraph:
    """Every edge that the facts give; what is missing between them is a gap."""
    builder = _Builder(facts)
    for spin in facts.spins:
        builder.spins(spin)
    for wait in facts.waits:
        builder.waits(wait)
    for folio in facts.folios:
        builder.held(folio)
    for pid in builder.runnable():
        builder.needs_cpu(pid)
    return WaitGraph(tuple(builder.nodes.values()), tuple(builder.edges), (*facts.gaps, *builder.gaps))


def task_id(pid: int) -> str:
    """The node of a task."""
    return f"task:{pid}"


@dataclass
class _Builder:
    facts: Facts
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    pools: dict[int, PoolFact] = field(default_factory=dict)
    works: dict[int, WorkFact] = field(default_factory=dict)
    tasks: dict[int, TaskFact] = field(default_factory=dict)
    folios: dict[int, FolioFact] = field(default_factory=dict)
    cpus: dict[int, CpuFact] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pools = {pool.id: pool for pool in self.facts.pools}
        self.works = {work.address: work for work in self.facts.works}
        self.tasks = {task.pid: task for task in self.facts.tasks}
        self.folios = {folio.pfn: folio for folio in self.facts.folios}
        self.cpus = {cpu.cpu: cpu for cpu in self.facts.cpus}

    def runnable(self) -> list[int]:
        """Tasks of the graph that could run and do not."""
        pids = [int(id.partition(":")[2]) for id in self.nodes if id.startswith("task:")]
        return [
            pid for pid in pids if pid in self.tasks and self.tasks[pid].state == "R"
            and not self.tasks[pid].on_cpu
        ]  # fmt: skip

    def spins(self, spin: Spin) -> None:
        """A running task and the folio that it faults on."""
        task = self.tasks.get(spin.pid)
        folio = self.folios.get(spin.pfn)
        if task is None or folio is None:
            return
        moment = "now" if spin.current else "in its range"
        self._edge(
            self._task(spin.pid),
            self._folio(spin.pfn),
            "spins on",
            f"spins on CPU {task.cpu} in {' < '.join([spin.function, *_landmarks(task, spin.frame + 1)])}",
            "data" if spin.current else "derived",
            _frame(task, spin.frame, spin.function),
            f"entry of {spin.address:#x} ({moment}): {spin.entry}, pfn {spin.pfn:#x}",
            f"folio {folio.address:#x}: locked={int(folio.locked)}",
            f"{task.faults} faults by this task, {spin.pages} pages left of its range",
            since_s=task.on_cpu_s,
        )

    def held(self, folio: FolioFact) -> None:
        """A locked folio and who locked it, by its frames."""
        if not folio.locked or f"folio:{folio.pfn:#x}" not in self.nodes:
            return
        waiting = {spin.pid for spin in self.facts.spins if spin.pfn == folio.pfn}
        waiting |= {wait.pid for wait in self.facts.waits if (wait.kind, wait.target) == ("folio", folio.pfn)}
        holds = [hold for hold in self.facts.holds if hold.pfn == folio.pfn and hold.pid not in waiting]
        certain = [hold for hold in holds if hold.data]
        if len(certain) > 1:  # a folio has one holder: what is kept of the others is out of date
            certain = [replace(hold, data=False) for hold in certain]
        for hold in certain or holds:
            self._held_by(folio, hold)
        if not holds:
            self.gaps.append(f"who holds the lock of folio {folio.pfn:#x} is not known")

    def waits(self, wait: Wait) -> None:
        """A sleeping task and what it sleeps on."""
        task = self.tasks.get(wait.pid)
        if task is None:
            return
        match wait.kind:
            case "work":
                self._flushes(task, wait)
            case "folio":
                self._sleeps(task, wait, self._folio(wait.target), f"the lock of folio {wait.target:#x}")
            case "mutex" | "rwsem":
                self._locks(task, wait)
            case "stopper":
                self._stops(task, wait)
            case "completion":
                label = f"completion {wait.target:#x}"
                self._sleeps(task, wait, self._node(f"other:{wait.target:#x}", label), label)
                self.gaps.append(f"who completes {wait.target:#x}, for which {task.name} waits, is not known")
            case "rcu":
                self._sleeps(
                    task, wait, self._node("other:rcu", "an RCU grace period"), "an RCU grace period"
                )
                self.gaps.append(
                    f"which CPU holds up the grace period that {task.name} waits for is not known"
                )

    def needs_cpu(self, pid: int) -> None:
        """A task that could run, and who is on its CPU."""
        task = self.tasks[pid]
        cpu = self.cpus.get(task.cpu)
        if cpu is None:
            self.gaps.append(f"who runs on CPU {task.cpu}, which {task.name} needs, is not known")
            return
        holder = self.tasks.get(cpu.pid)
        here = self._node(f"cpu:{cpu.cpu}", f"CPU {cpu.cpu}")
        if holder is None:
            text = f"needs CPU {cpu.cpu}, which is idle and about to run it"
            self._edge(
                self._task(pid), here, "needs", text, "data", f"rq {cpu.cpu}: curr pid 0", blocks=False
            )
            return
        stands = stand(self.facts.model, cpu, holder, task.policy, task.rt_priority)
        bound: Sure = "data" if task.bound else "derived"
        waited = [t for t in (task.off_cpu_s, self._stalled(pid)) if t is not None]
        self._edge(
            self._task(pid),
            here,
            "needs",
            f"needs CPU {cpu.cpu}" if stands.keeps else f"needs CPU {cpu.cpu}, and {stands.why}",
            bound,
            f"task {pid}: state R, on_cpu=0, cpu={task.cpu}, policy {task.policy}, bound={int(task.bound)}",
            since_s=min(waited, default=None),
            blocks=stands.keeps,
        )
        self._occupied(here, cpu, holder, stands.why, stands.sure)

    def _occupied(self, here: str, cpu: CpuFact, holder: TaskFact, why: str, sure: Sure) -> None:
        if any(edge.source == here for edge in self.edges):
            return
        time = f" for {holder.on_cpu_s:.1f} s" if holder.on_cpu_s is not None else ""
        mode = {True: "kernel", False: "user", None: "unknown"}[cpu.in_kernel]
        server = "none" if cpu.fair_server_ms is None else f"{cpu.fair_server_ms:g} ms"
        self._edge(
            here,
            self._task(holder.pid),
            "occupied by",
            f"occupied by {holder.name}{time}: {why}",
            sure,
            f"rq {cpu.cpu}: curr pid {cpu.pid}",
            f"preemption model {self.facts.model}, mode {mode}, preempt_count={cpu.preempt_count}, "
            f"need_resched={int(cpu.need_resched)}, irqs_off={cpu.irqs_off}",
            f"policy {holder.policy}, rt_priority={holder.rt_priority}, fair server {server}",
            since_s=holder.on_cpu_s,
        )

    def _held_by(self, folio: FolioFact, hold: Hold) -> None:
        task = self.tasks.get(hold.pid)
        if task is None:
            return
        doubt = "" if hold.data else " (derived)"
        self._edge(
            self._folio(folio.pfn),
            self._task(hold.pid),
            "held by",
            f"held by {task.name}{doubt}",
            "data" if hold.data else "derived",
            _frame(task, hold.frame, hold.function),
            hold.how,
        )

    def _flushes(self, task: TaskFact, wait: Wait) -> None:
        work = self.works.get(wait.target)
        if work is None:
            self.gaps.append(f"work item {wait.target:#x}, for which {task.name} waits, cannot be read")
            return
        facts = (f"work item {work.address:#x}", f"workqueue {work.workqueue or 'not known'}")
        here = self._node(f"work:{work.address:#x}", work.function, *facts)
        self._edge(
            self._task(task.pid),
            here,
            "waits for",
            f"awaits {work.function} in {' < '.join(_landmarks(task, wait.frame)) or wait.function}",
            "data",
            _frame(task, wait.frame, wait.function),
            f"work {work.address:#x}: func {work.function}",
            since_s=task.off_cpu_s,
        )
        if any(edge.source == here for edge in self.edges):
            return
        if work.running:
            self._run_by(work, here)
        elif work.pending and work.pool in self.pools:
            self._queued(work, here, self.pools[work.pool])
        else:
            self.gaps.append(f"{work.function} ({work.address:#x}) is neither queued nor running")

    def _run_by(self, work: WorkFact, here: str) -> None:
        worker = self.tasks.get(work.running)
        if worker is None:
            self.gaps.append(f"worker {work.running} of {work.function} is not on the list of tasks")
            return
        evidence = f"worker of task {worker.pid}: current_work={work.address:#x}"
        self._edge(here, self._task(worker.pid), "run by", f"run by {worker.name}", "data", evidence)

    def _queued(self, work: WorkFact, here: str, pool: PoolFact) -> None:
        where = f"the worker pool of CPU {pool.cpu}" if pool.cpu >= 0 else f"unbound pool {pool.id}"
        there = self._node(f"pool:{pool.id}", where, f"{pool.pending} work items wait")
        stalled = f", no progress for {pool.stalled_s:.1f} s" if pool.stalled_s is not None else ""
        queue = f" ({work.workqueue})" if work.workqueue else ""
        self._edge(
            here,
            there,
            "queued on",
            f"queued on {where}{queue}{stalled}",
            "data",
            f"work {work.address:#x}: WORK_STRUCT_PENDING, pool {pool.id} at {pool.address:#x}",
            f"pool {pool.id}: cpu={pool.cpu}, {pool.pending} pending",
            since_s=pool.stalled_s,
        )
        if not any(edge.source == there for edge in self.edges):
            self._served(pool, there)

    def _served(self, pool: PoolFact, here: str) -> None:
        workers = [self.tasks[pid] for pid in pool.workers if pid in self.tasks]
        ready = [worker for worker in workers if worker.state == "R"]
        ready.sort(key=lambda worker: (not worker.on_cpu, worker.pid != pool.woken))
        if not ready:
            states = ", ".join(f"{worker.name} {worker.state}" for worker in workers)
            self.gaps.append(f"no worker of pool {pool.id} wants to run: {states or 'it has none'}")
            return
        worker = ready[0]
        state = "running" if worker.on_cpu else "runnable, not running"
        self._edge(
            here,
            self._task(worker.pid),
            "served by",
            f"served by {worker.name}, {state}",
            "data",
            f"pool {pool.id}: workers {', '.join(map(str, pool.workers))}; last woken {pool.woken or '?'}",
            f"task {worker.pid}: state {worker.state}, on_cpu={int(worker.on_cpu)}",
            since_s=pool.stalled_s,
        )

    def _locks(self, task: TaskFact, wait: Wait) -> None:
        here = self._node(f"lock:{wait.target:#x}", f"{wait.kind} {wait.target:#x}", kind="lock")
        self._sleeps(task, wait, here, f"{wait.kind} {wait.target:#x}")
        if any(edge.source == here for edge in self.edges):
            return
        for pid in wait.owners:
            if pid in self.tasks and pid != task.pid:
                name = self.tasks[pid].name
                evidence = f"{wait.kind} {wait.target:#x}: owner pid {pid}"
                self._edge(here, self._task(pid), "held by", f"held by {name}", "data", evidence)
        if not wait.owners:
            self.gaps.append(f"who owns {wait.kind} {wait.target:#x} is not stored")

    def _stops(self, task: TaskFact, wait: Wait) -> None:
        for pid in wait.owners:
            if pid not in self.tasks:
                continue
            name = self.tasks[pid].name
            self._sleeps(task, wait, self._task(pid), f"stopper {name}")
        if not wait.owners:
            self.gaps.append(f"the stopper that {task.name} waits for is not known")

    def _sleeps(self, task: TaskFact, wait: Wait, target: str, what: str) -> None:
        self._edge(
            self._task(task.pid),
            target,
            "waits for",
            f"waits for {what} in {_place(task, wait.frame, wait.function)}",
            "data",
            _frame(task, wait.frame, wait.function),
            f"task {task.pid}: state {task.state}",
            since_s=task.off_cpu_s,
        )

    def _stalled(self, pid: int) -> float | None:
        return next((pool.stalled_s for pool in self.facts.pools if pid in pool.workers), None)

    def _task(self, pid: int) -> str:
        task = self.tasks[pid]
        place = f"CPU {task.cpu}, {task.policy}, state {task.state}{', running' if task.on_cpu else ''}"
        return self._node(task_id(pid), task.name, place, kind="task")

    def _folio(self, pfn: int) -> str:
        folio = self.folios.get(pfn)
        facts: list[str] = []
        if folio:
            words = ["locked" if folio.locked else "not locked"]
            words += ["device private"] * folio.device_private + ["on the LRU"] * folio.lru
            words += [f"{folio.pages} pages"] * (folio.pages > 1)
            facts = [", ".join(words), f"mapcount {folio.mapcount}, refcount {folio.refcount}"]
            facts += [f"{m.entry} in {m.comm}:{m.pid}" for m in folio.mappings]
        return self._node(f"folio:{pfn:#x}", f"folio pfn {pfn:#x}", *facts)

    def _node(self, id: str, label: str, *facts: str, kind: str = "") -> str:
        if id not in self.nodes:
            self.nodes[id] = Node(id, kind or id.partition(":")[0], label, facts)  # type: ignore[arg-type]
        return id

    def _edge(
        self,
        source: str,
        target: str,
        kind: str,
        text: str,
        sure: Sure,
        *evidence: str,
        since_s: float | None = None,
        blocks: bool = True,
    ) -> None:
        self.edges.append(Edge(source, target, kind, text, sure, evidence, since_s, blocks))


def _landmarks(task: TaskFact, number: int) -> list[str]:
    """Of the calls from a frame outwards, those by which a reader knows the bug."""
    return [frame.function for frame in task.stack[number:] if frame.function in _LANDMARKS]


def _place(task: TaskFact, number: int, function: str) -> str:
    file = _file(task, number)
    return f"{function} ({file})" if file else function


def _file(task: TaskFact, number: int) -> str:
    return task.stack[number].place if number < len(task.stack) else ""


def _frame(task: TaskFact, number: int, function: str) -> str:
    return f"task {task.pid} frame #{number} {_place(task, number, function)}"
