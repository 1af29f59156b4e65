# SPDX-License-Identifier: GPL-2.0-only
"""Every process the harness starts, starts here.

No shell strings; each child leads a process group of its own, which is ended as a whole; the kernel
ends the child when the harness dies, however it dies (PR_SET_PDEATHSIG, through util-linux's setpriv).
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from harness.deadline import Deadline
from harness.disk import disk_errors
from harness.errors import InfraError

#: Seconds between SIGTERM and SIGKILL.
TERM_GRACE_S = 1.0


class LateError(InfraError):
    """A process did not end before its deadline, and was ended."""


@dataclass(frozen=True)
class Completed:
    """A process that has ended: its command, exit status (negative: signal) and output.

    errors: what it wrote to standard error, if that was kept apart.
    """

    argv: tuple[str, ...]
    status: int
    output: str
    errors: str = ""

    @property
    def ok(self) -> bool:
        return self.status == 0


@cache
def _death_signal_prefix() -> tuple[str, ...]:
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "KILL", "--") if setpriv else ()


def command_line(argv: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """The command as a person would type it in a shell."""
    words = [f"{key}={shlex.quote(value)}" for key, value in (env or {}).items()]
    return " ".join([*words, *(shlex.quote(word) for word in argv)])


def require_program(name: str, *, hint: str = "") -> str:
    """Absolute path of a program; InfraError if it is not installed."""
    path = shutil.which(name)
    if path is None:
        raise InfraError(f"{name} is not installed", hint=hint or "`hmm-harness doctor` names the package")
    return path


def start(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int | IO[bytes] | None = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = subprocess.DEVNULL,
    stderr: int | IO[bytes] | None = subprocess.STDOUT,
    pass_fds: Sequence[int] = (),
    foreground: bool = False,
    outlives: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a process and return at once; `stop()` ends it.

    `env` is added to the harness's own environment. `foreground` leaves the child in the terminal's
    process group, for a program that talks to the user; `outlives` lets it go on when the harness is gone.
    Raises InfraError if it cannot be started.
    """
    require_program(argv[0])
    try:
        return subprocess.Popen(
            [*(() if outlives else _death_signal_prefix()), *argv],
            cwd=cwd,
            env={**os.environ, **env} if env else None,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=tuple(pass_fds),
            start_new_session=not foreground,
        )
    except OSError as error:
        raise InfraError(f"cannot start {argv[0]}: {error.strerror}", hint=command_line(argv)) from error


def stop(process: subprocess.Popen[bytes], *, grace_s: float = TERM_GRACE_S) -> int:
    """End a process and its whole group; return its exit status."""
    if process.poll() is None:
        _signal_group(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
    _signal_group(process, signal.SIGKILL)
    return process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        # The group outlives its leader: what a dead make has started still compiles.
        os.killpg(process.pid, number)
    except ProcessLookupError:
        process.send_signal(number)


@contextlib.contextmanager
def running(
    process: subprocess.Popen[bytes], *, grace_s: float = TERM_GRACE_S
) -> Iterator[subprocess.Popen[bytes]]:
    """Stop the process when the block is left, however it is left."""
    try:
        yield process
    finally:
        stop(process, grace_s=grace_s)


def run(
    argv: Sequence[str],
    *,
    deadline: Deadline,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
    stdin: IO[bytes] | None = None,
    on_line: Callable[[str], None] | None = None,
    check: bool = True,
    merge_stderr: bool = True,
    grace_s: float = 0.0,
) -> Completed:
    """Run a process to its end and return its output: standard output and error together.

    Every line is also appended to `log` and given to `on_line` as it comes. `merge_stderr=False` is for
    output that is parsed: standard error is kept apart, and out of `log` and `on_line`. With `check`, a
    status other than 0 raises InfraError with the end of all output. Raises LateError when the deadline
    passes, and InfraError when the log cannot be written. A process that is ended early is killed at once;
    with `grace_s`, it is asked with SIGTERM first, and has so long to leave things in order.
    """
    lines: list[str] = []
    with contextlib.ExitStack() as stack:
        write = stack.enter_context(_appending(log)) if log else None
        if write:
            write(f"$ {command_line(argv, env)}\n")
        # A file without a disk: nobody has to read it for the process to go on.
        apart = None if merge_stderr else stack.enter_context(os.fdopen(os.memfd_create("stderr"), "w+b"))
        child = stack.enter_context(
            running(
                start(
                    argv,
                    cwd=cwd,
                    env=env,
                    stdin=stdin or subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=apart or subprocess.STDOUT,
                ),
                grace_s=max(grace_s, TERM_GRACE_S),
            )
        )
        late = threading.Event()

        def expire() -> None:
            late.set()
            _signal_group(child, signal.SIGTERM if grace_s else signal.SIGKILL)

        def kill() -> None:
            _signal_group(child, signal.SIGKILL)

        ends = [(deadline.remaining, expire)]
        if grace_s:
            ends.append((deadline.remaining + grace_s, kill))
        for seconds, action in ends:
            timer = threading.Timer(seconds, action)
            timer.daemon = True
            timer.start()
            stack.callback(timer.cancel)
        assert child.stdout is not None
        for raw in child.stdout:
            line = raw.decode("utf-8", errors="replace")
            lines.append(line)
            if write:
                write(line)
            if on_line:
                on_line(line.rstrip("\n"))
        status = child.wait()
        errors = _content(apart).decode("utf-8", errors="replace") if apart else ""
    if late.is_set():
        raise LateError(f"{argv[0]} did not end in time", hint=command_line(argv, env))
    done = Completed(tuple(argv), status, "".join(lines), errors)
    if check and not done.ok:
        tail = "\n".join([*done.output.splitlines(), *errors.splitlines()][-12:])
        raise InfraError(f"{argv[0]} failed with status {status}:\n{tail}", hint=command_line(argv, env))
    return done


@contextlib.contextmanager
def _appending(log: Path) -> Iterator[Callable[[str], None]]:
    """Append to a log what the function is given, at once: InfraError if the disk does not take it."""
    with disk_errors(log):
        sink = log.open("ab", buffering=0)

    def write(text: str) -> None:
        data = text.encode()
        with disk_errors(log):
            while data:
                data = data[sink.write(data) :]

    with sink:
        yield write


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()
