# SPDX-License-Identifier: GPL-2.0-only
"""Trials on a Dask cluster: sent through its concurrent.futures interface, files by content, in order."""

from __future__ import annotations

import contextlib
import logging
import shutil
import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness.deadline import Deadline
from harness.errors import HarnessError, InfraError, UserError
from harness.experiment.kernels import BootableKernel
from harness.experiment.kit import Part, kit_of, pack, part_path
from harness.experiment.placement import Host, Need
from harness.experiment.runner import Ran, in_order
from harness.experiment.trial import TrialPlan
from harness.progress import Progress
from harness.results.kernels import keep_kernel
from harness.results.runfolder import TrialResult

try:
    from distributed import Client, KilledWorker
    from distributed.comm.addressing import parse_address, parse_host_port

    from harness.experiment import errand
except ImportError as error:
    hint = "install the harness with its extra: pip install 'hmm-harness[dask]'"
    raise UserError(f"--scheduler needs Dask: {error}", hint=hint) from error

#: The scheduler must answer, and a worker be there, within so many seconds.
_CONNECT_S = 30.0
#: Without any worker for so long a run ends, and can be resumed.
_PATIENCE_S = 60.0
#: A trial is sent so often to workers that turn out to lack something.
_ROUNDS = 10
#: Trials that one harness keeps going at once.
_MOST = 256


class Cluster:
    """Runs trials on the workers of a Dask scheduler: one on each of their threads."""

    def __init__(self, client: Any, address: str, progress: Progress) -> None:
        self._client = client
        self._address = address
        self._progress = progress
        self._executor = client.get_executor(pure=False)
        self._ending = threading.Event()
        #: What workers were asked and have not answered.
        self._asked: set[Future[Any]] = set()
        #: Held while a worker is sent a file: several trials may find that it lacks it.
        self._sending: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._sent: set[tuple[str, Part]] = set()
        self._places = _MOST
        self._hopeless = Deadline.after(_PATIENCE_S)
        self._look()

    @classmethod
    @contextlib.contextmanager
    def at(cls, address: str, needs: Sequence[Need], progress: Progress) -> Iterator[Cluster]:
        """A cluster by its scheduler's address. InfraError if it does not answer, or has no worker.

        UserError if a worker is of another version, or a machine has more threads than it holds trials.
        """
        check_address(address)
        for name in ("distributed", "distributed.client"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters is said by an error
        with _no_answer(address), Client(address, timeout=_CONNECT_S, set_as_default=False) as client:
            try:
                client.wait_for_workers(1, timeout=_CONNECT_S)
            except TimeoutError as error:
                hint = f"start one with: dask worker {address} --nthreads 1"
                raise InfraError(f"the scheduler at {address} has no worker", hint=hint) from error
            found = client.run(errand.about, on_error="return")
            check_workers(found, needs)
            threads = sum(one.threads for one in found.values())
            progress.note(f"{address}: workers: {len(found)}, trials at once: {threads}")
            yield cls(client, address, progress)

    def run(self, plans: Iterable[TrialPlan], folder: Path) -> Generator[Ran, None, None]:
        """See `Runner.run`. A trial whose worker is lost is run again by another."""
        self._ending.clear()
        with ThreadPoolExecutor(_MOST, thread_name_prefix="errand") as threads:

            def submit(plan: TrialPlan) -> Future[TrialResult]:
                keep_kernel(folder, plan.kernel.build)
                return threads.submit(self._send, plan, folder / plan.folder)

            try:
                yield from in_order(plans, submit, lambda plans: len(plans) <= self._places, self._look)
            finally:
                self._ending.set()
                for asked in list(self._asked):
                    asked.cancel()
                threads.shutdown(cancel_futures=True)

    def _send(self, plan: TrialPlan, target: Path) -> TrialResult:
        """Have a trial run by some worker, which gets what it lacks; its folder ends up at `target`."""
        kit = kit_of(plan.kernel)
        for _ in range(_ROUNDS):
            answer = self._ask(errand.Errand(plan, kit))
            if isinstance(answer, HarnessError):
                raise answer
            if isinstance(answer, errand.Parcel):
                shutil.rmtree(target, ignore_errors=True)  # of a trial that was cut short
                answer.unpack(target)
                return answer.result
            sent = [part for part in answer.parts if self._deliver(answer.worker, part, plan.kernel)]
            if sent:
                self._progress.note(f"{answer.worker} got {len(sent)} files of {plan.kernel.build.release}")
        raise InfraError(
            f"trial {plan.index} of {plan.arm} was sent to {_ROUNDS} workers that lost what they were sent",
            hint="is there room in their cache folder?",
        )

    def _ask(self, what: errand.Errand) -> errand.Parcel | errand.Lacks | HarnessError:
        future: Future[errand.Parcel | errand.Lacks | HarnessError]
        future = self._executor.submit(errand.carry_out, what)
        self._asked.add(future)
        if self._ending.is_set():
            future.cancel()
        try:
            return future.result()
        except CancelledError:
            if self._ending.is_set():
                raise
            raise InfraError(
                f"the scheduler at {self._address} is gone",
                hint="start it and its workers again, and go on with --resume",
            ) from None
        except KilledWorker as error:
            raise InfraError(
                f"trial {what.plan.index} of {what.plan.arm} ended {error.allowed_failures + 1} workers, the "
                f"last one at {error.last_worker.address}",
                hint="their logs, or their machines' (no memory left?), say why; then go on with --resume",
            ) from error
        finally:
            self._asked.discard(future)

    def _deliver(self, worker: str, part: Part, kernel: BootableKernel) -> bool:
        """Send a worker a file, unless it has been sent it: whether it has it since now."""
        path = part_path(kernel, part)
        with self._sending[worker]:
            if (worker, part) in self._sent:
                return False
            answer = self._client.run(errand.keep, part, pack(path), workers=[worker], on_error="return")
            if isinstance(answer.get(worker), HarnessError):
                raise answer[worker]
            if isinstance(answer.get(worker), BaseException):
                return False  # the worker is gone
            self._sent.add((worker, part))
            return True

    def _look(self) -> None:
        """Learn of workers that came or went. InfraError if there has been none for too long."""
        workers = self._client.scheduler_info()["workers"].values()
        self._places = min(_MOST, sum(worker["nthreads"] for worker in workers))
        if workers:
            self._hopeless = Deadline.after(_PATIENCE_S)
        elif self._hopeless.expired:
            raise InfraError(
                f"the scheduler at {self._address} has had no worker for {_PATIENCE_S:.0f} s",
                hint="start workers, and go on with --resume",
            )


def check_address(address: str) -> None:
    """UserError if it is no address of a scheduler; InfraError if nobody listens there."""
    try:
        host, port = parse_host_port(parse_address(address, strict=True)[1])
    except ValueError as error:
        raise UserError(f"--scheduler {address}: {error}", hint="as in tcp://HOST:8786") from error
    deadline = Deadline.after(_CONNECT_S)
    with _no_answer(address):
        while True:
            try:
                socket.create_connection((host, port), timeout=_CONNECT_S).close()
                return
            except ConnectionRefusedError:
                if deadline.expired:
                    raise
                time.sleep(0.1)  # it may have been started together with this harness


@contextlib.contextmanager
def _no_answer(address: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InfraError(
            f"no Dask scheduler answers at {address}: {error}", hint="start one with: dask scheduler"
        ) from error


def check_workers(found: Mapping[str, errand.About | BaseException], needs: Sequence[Need]) -> None:
    """Whether these workers, by address, can run trials of these kinds, one on each of their threads.

    InfraError if one cannot at all; UserError if its harness is another version, or its machine too small.
    """
    own = errand.version()
    threads: Counter[str] = Counter()
    hosts: dict[str, Host] = {}
    for address, one in found.items():
        if isinstance(one, BaseException):
            raise InfraError(
                f"the worker {address} cannot run trials: {one}",
                hint="install this harness there, with its extra `dask`",
            )
        if one.version != own:
            raise UserError(
                f"the worker {address} has version {one.version} of this harness, here is {own}",
                hint="install the same one there, and start the worker again",
            )
        threads[one.machine] += one.threads
        hosts[one.machine] = one.host
    for machine, number in threads.items():
        for need in needs:
            if not hosts[machine].holds([need] * number):
                most = hosts[machine].most(need)
                raise UserError(
                    f"{machine} has {number} worker threads and room for {most} trials that take {need}",
                    hint=f"all workers there may have {most} threads together (--nworkers, --nthreads)",
                )
