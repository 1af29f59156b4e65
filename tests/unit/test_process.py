# SPDX-License-Identifier: GPL-2.0-only
"""Processes: output, deadlines, and that nothing survives."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
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
    deadline = Deadline.after(60)
    while alive(pid) and not deadline.expired:
        time.sleep(0.02)
    return not alive(pid)


def test_output_goes_to_lines_and_log(tmp_path: Path) -> None:
    seen: list[str] = []
    log = tmp_path / "log"
    argv = ["sh", "-c", "echo one; echo two >&2"]
    done = run(argv, deadline=Deadline.after(60), log=log, on_line=seen.append)
    assert done.ok and sorted(seen) == ["one", "two"]
    assert log.read_text().startswith("$ sh -c ") and "two\n" in log.read_text()


def test_standard_error_can_be_kept_out_of_what_is_parsed(tmp_path: Path) -> None:
    seen: list[str] = []
    argv = ["sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x >&2; echo answer"]
    done = run(argv, deadline=Deadline.after(60), on_line=seen.append, merge_stderr=False)
    assert (done.output, seen) == ("answer\n", ["answer"])
    assert done.errors == "x" * 1000000
    assert run(["sh", "-c", "echo why >&2"], deadline=Deadline.after(60)).output == "why\n"


def test_a_failure_shows_standard_error_that_was_kept_apart() -> None:
    with pytest.raises(InfraError, match=r"status 3:\nwhat\nwhy$"):
        run(["sh", "-c", "echo why >&2; echo what; exit 3"], deadline=Deadline.after(60), merge_stderr=False)


def test_a_log_that_cannot_be_written_is_a_fault_of_the_machine(tmp_path: Path) -> None:
    with pytest.raises(InfraError, match="cannot write /dev/full: No space left"):
        run(["echo", "x"], deadline=Deadline.after(60), log=Path("/dev/full"))
    with pytest.raises(InfraError, match="Is a directory"):
        run(["echo", "x"], deadline=Deadline.after(60), log=tmp_path)


def test_a_disk_that_fills_up_ends_the_process(tmp_path: Path) -> None:
    pidfile = tmp_path / "pid"
    log = tmp_path / "log"

    def fill(_: str) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size, limits[1]))

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    script = f"echo $$ >{pidfile}; while echo line; do :; done"
    try:
        with pytest.raises(InfraError, match=r"cannot write .*/log: File too large"):
            run(["sh", "-c", script], deadline=Deadline.after(60), log=log, on_line=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert wait_gone(int(pidfile.read_text()))


def test_a_failure_shows_the_end_of_the_output_and_the_command() -> None:
    with pytest.raises(InfraError, match=r"status 3:\nwhy it failed") as caught:
        run(["sh", "-c", "echo why it failed; exit 3"], deadline=Deadline.after(60))
    assert "sh -c 'echo why it failed; exit 3'" in caught.value.hint


def test_a_deadline_ends_the_whole_group(tmp_path: Path) -> None:
    pidfile = tmp_path / "pid"
    script = f"sleep 600 & echo $! >{pidfile}; wait"
    for seconds in (0.2, 2.0, 20.0):  # a busy machine may not let it start anything in so short a time
        with pytest.raises(InfraError, match="did not end in time"):
            run(["sh", "-c", script], deadline=Deadline.after(seconds))
        if pidfile.exists() and pidfile.read_text():
            break
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
    # setpriv, which asks the kernel for the signal, becomes the program once it has.
    deadline = Deadline.after(60)
    while Path(f"/proc/{child}/comm").read_text() != "sleep\n" and not deadline.expired:
        time.sleep(0.02)
    assert alive(child)
    harness.kill()
    harness.wait()
    assert wait_gone(child)


def test_a_program_that_is_missing_is_named() -> None:
    with pytest.raises(InfraError, match="no-such-program is not installed"):
        start(["no-such-program"])


def test_a_command_line_can_be_pasted() -> None:
    assert command_line(["make", "A=b c"], {"X": "1 2"}) == "X='1 2' make 'A=b c'"
