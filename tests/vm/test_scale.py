# SPDX-License-Identifier: GPL-2.0-only
"""Trials at once, on this machine and on a cluster: real guests of one CPU, of which two fit."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.experiment.placement import Host
from tests.vm.conftest import HARNESS, Kernels, harness, qemu_of

pytestmark = pytest.mark.vm

DASK = Path(sys.executable).parent / "dask"
WORDS = ("compare", "--scenario", "ioctl-check", "--cpus", "1", "--memory-mb", "640")
ORDER = ["001-unfixed", "001-fixed", "002-fixed", "002-unfixed", "003-unfixed", "003-fixed"]

needs_two_cores = pytest.mark.skipif(Host.here().cores < 2, reason="two guests at once need two cores")


def trials(out: Path) -> dict[str, dict[str, Any]]:
    """The records of all trials of the one run in a folder, in the order in which they began."""
    records = [(path.parent.name, json.loads(path.read_text())) for path in out.glob("*/trials/*/run.json")]
    return dict(sorted(records, key=lambda item: (item[1]["begun"], ORDER.index(item[0]))))


def until(happened: Callable[[], object], limit_s: float = 120) -> None:
    deadline = time.monotonic() + limit_s
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def interrupted(out: Path, *words: str) -> str:
    """Ctrl-C when the first trial is done and another one runs; what the program said."""
    argv = [str(HARNESS), *WORDS, "--trials", "3", *words, "--out", str(out)]
    child = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until(lambda: child.poll() is not None or any(t["state"] == "finished" for t in trials(out).values()))
    until(lambda: child.poll() is not None or guests())
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=120)
    assert child.returncode == 130, err
    return err


def guests() -> list[int]:
    """QEMUs of this test's guests, which have this much memory."""
    return [pid for pid in qemu_of(Path("/")) if b"640M" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@needs_two_cores
def test_two_at_once_end_with_ctrl_c_and_resume_and_are_told_in_order(
    newest: Kernels, tmp_path: Path
) -> None:
    err = interrupted(tmp_path, "--jobs", "2")
    assert "--resume" in err and qemu_of(tmp_path) == []
    (folder,) = tmp_path.iterdir()
    before = {name: trial for name, trial in trials(tmp_path).items() if trial["state"] == "finished"}
    assert before and any(trial["state"] == "interrupted" for trial in trials(tmp_path).values())
    ran = harness("compare", "--resume", str(folder), "--jobs", "auto", "--json", out=tmp_path)
    assert ran.json["verdict"] == "not_reproduced", ran.err
    assert "2 trials at once" in ran.err
    after = trials(tmp_path)
    assert {name: after[name] for name in before} == before
    assert {trial["result"]["outcome"] for trial in after.values()} == {"completed"}
    told = [line.split("trial=")[1].split()[:2] for line in ran.err.splitlines() if "trial=" in line]
    assert [f"{int(index):03d}-{arm.removeprefix('arm=')}" for index, arm in told] == ORDER
    pairs = [after["002-fixed"], after["002-unfixed"], after["003-unfixed"], after["003-fixed"]]
    begun, ended = [t["begun"] for t in pairs], [t["ended"] for t in pairs]
    assert any(b < e for b, e in zip(begun[1:], ended[:-1], strict=True)), "no two of them ran at once"


@dataclass
class Farm:
    """A scheduler and two workers, each with a cache of its own."""

    address: str
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]
    caches: list[Path]

    def blobs(self) -> list[dict[str, int]]:
        """What each worker has been sent, by content, and which file it is; a use changes its times."""
        return [
            {path.name: path.stat().st_ino for path in cache.glob("hmm-harness/fetched/blobs/*")}
            for cache in self.caches
        ]


@pytest.fixture
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    pytest.importorskip("distributed")
    place = tmp_path_factory.mktemp("farm")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    children, caches = [], [place / "a", place / "b"]

    def start(log: str, *words: str, **env: str) -> subprocess.Popen[bytes]:
        with (place / log).open("wb") as sink:
            argv = [str(DASK), *words, "--no-dashboard"]
            children.append(
                subprocess.Popen(argv, stdout=sink, stderr=sink, env={**os.environ, **env}, cwd=place)
            )
        return children[-1]

    try:
        scheduler = start("scheduler.log", "scheduler", "--host", "127.0.0.1", "--port", str(port))
        words = ("worker", address, "--nthreads", "1", "--no-nanny", "--local-directory", str(place))
        workers = [start(f"{cache.name}.log", *words, XDG_CACHE_HOME=str(cache)) for cache in caches]
        yield Farm(address, scheduler, workers, caches)
    finally:
        for child in children:
            child.kill()
            child.wait()


@needs_two_cores
def test_a_cluster_comes_to_the_same_though_a_worker_is_killed(
    newest: Kernels, tmp_path: Path, farm: Farm
) -> None:
    words = ("--scheduler", farm.address)
    out, cut = tmp_path / "out", tmp_path / "cut"
    argv = [str(HARNESS), *WORDS, "--trials", "3", *words, "--json", "--out", str(out)]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: child.poll() is not None or len(guests()) == 2)
    both = farm.blobs()
    farm.workers[0].kill()
    until(lambda: child.poll() is not None or len(guests()) <= 1)
    stdout, err = child.communicate(timeout=240)
    assert child.returncode == 1, err
    verdict = json.loads(stdout)
    assert verdict["verdict"] == "not_reproduced", err
    found = trials(out)
    assert sorted(found) == sorted(ORDER)
    assert {trial["result"]["outcome"] for trial in found.values()} == {"completed"}
    told = [line.split("trial=")[1].split()[:2] for line in err.splitlines() if "trial=" in line]
    assert [f"{int(index):03d}-{arm.removeprefix('arm=')}" for index, arm in told] == ORDER
    (folder,) = out.iterdir()
    assert len(list((folder / "kernels").iterdir())) == 2
    assert (folder / "trials/001-fixed/console.log").stat().st_size > 1000
    assert f"{farm.caches[1]}/hmm-harness/fetched" in (folder / "trials/003-fixed/guest.json").read_text()

    # What a worker has, it is never sent again; and Ctrl-C leaves no guest on it.
    second = farm.blobs()[1]
    assert both[0].keys() <= second.keys() and both[1].items() <= second.items()
    err = interrupted(cut, *words)
    assert "--resume" in err and farm.blobs()[1] == second and "got" not in err
    until(lambda: not guests(), 10)

    # Without the scheduler it is a fault of the machine, said in two lines, and what was done stays.
    (folder,) = cut.iterdir()
    done = {name: trial for name, trial in trials(cut).items() if trial["state"] == "finished"}
    argv = [str(HARNESS), "compare", "--resume", str(folder), *words, "--store", str(tmp_path / "store")]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: child.poll() is not None or guests())
    farm.scheduler.kill()
    _, err = child.communicate(timeout=90)
    assert child.returncode == 3 and "is gone\nhint: start it" in err and "Traceback" not in err, err
    assert f"go on with: {HARNESS} compare --resume {folder}" in err
    assert {name: trials(cut)[name] for name in done} == done
    until(lambda: not guests(), 10)
