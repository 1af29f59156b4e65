# SPDX-License-Identifier: GPL-2.0-only
"""Processes: output, deadlines, and that nothing survives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import InfraError
from harness.process import command_line, run, running, start, stop


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_gone(pid: int) -> bool:
    deadline = Deadline.after(10)
    while alive(pid) and not deadline.expired:
        os.sched_yield()
    return not alive(pid)


def test_output_goes_to_lines_and_log(tmp_path: Path) -> None:
    seen: list[str] = []
    log = tmp_path / "log"
    argv = ["sh", "-c", "echo one; echo two >&2"]
    done = run(argv, deadline=Deadline.after(30), log=log, on_line=seen.append)
    assert done.ok and sorted(seen) == ["one", "two"]
    assert log.read_text().startswith("$ sh -c ") and "two\n" in log.read_text()


def test_a_failure_shows_the_end_of_the_output_and_the_command() -> None:
    with pytest.raises(InfraError, match=r"status 3:\nwhy it failed") as caught:
        run(["sh", "-c", "echo why it failed; exit 3"], deadline=Deadline.after(30))
    assert "sh -c 'echo why it failed; exit 3'" in caught.value.hint


def test_a_deadline_ends_the_whole_group(tmp_path: Path) -> None:
    pidfile = tmp_path / "pid"
    script = f"sleep 600 & echo $! >{pidfile}; wait"
    with pytest.raises(InfraError, match="did not end in time"):
        run(["sh", "-c", script], deadline=Deadline.after(1))
    assert wait_gone(int(pidfile.read_text()))


def test_leaving_the_block_ends_the_process() -> None:
    with pytest.raises(KeyboardInterrupt), running(start(["sleep", "600"])) as child:
        assert child.poll() is None
        raise KeyboardInterrupt
    assert child.returncode == -signal.SIGTERM


def test_stopping_reaches_what_a_dead_leader_started(tmp_path: Path) -> None:
    pidfile = tmp_path / "pid"
    leader = start(["sh", "-c", f"sleep 600 & echo $! >{pidfile}"])
    leader.wait()
    child = int(pidfile.read_text())
    assert alive(child)
    stop(leader)
    assert wait_gone(child)


def test_a_process_does_not_outlive_a_killed_harness(tmp_path: Path) -> None:
    pidfile = tmp_path / "pid"
    program = (
        "import sys; from harness.process import start\n"
        f"child = start(['sleep', '600']); open({str(pidfile)!r}, 'w').write(str(child.pid))\n"
        "print('started', flush=True); child.wait()"
    )
    harness = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert harness.stdout is not None and harness.stdout.readline() == b"started\n"
    child = int(pidfile.read_text())
    assert alive(child)
    harness.kill()
    harness.wait()
    assert wait_gone(child)


def test_a_program_that_is_missing_is_named() -> None:
    with pytest.raises(InfraError, match="no-such-program is not installed"):
        start(["no-such-program"])


def test_a_command_line_can_be_pasted() -> None:
    assert command_line(["make", "A=b c"], {"X": "1 2"}) == "X='1 2' make 'A=b c'"
