# SPDX-License-Identifier: GPL-2.0-only
"""SSH to a box: commands as lists of words, files verified by hash, and no host key accepted unseen."""

from __future__ import annotations

import contextlib
import logging
import math
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import paramiko

from harness.cache import sha256_file
from harness.deadline import Deadline
from harness.errors import InfraError, UserError
from harness.target.box.config import Ssh

#: To reach the port, to be greeted, to be let in, s each.
CONNECT_S = 10.0
#: Between two signs of life of an idle connection, s.
KEEPALIVE_S = 5
_CHUNK = 65536
_SHOWN = 300

# What goes wrong here is raised; paramiko would log it as well, with traces, while a box boots.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


class Unreachable(InfraError):
    """The box does not answer, or the connection broke."""


class Silent(InfraError):
    """The connection stands, as far as is known, and nothing comes."""


class NotLetIn(UserError):
    """The box does not let us in; while it boots, that may change."""


class HostKeyError(UserError):
    """The host's key is unknown, or another one than is known."""


@dataclass(frozen=True)
class Said:
    """A command on the box that has ended."""

    status: int
    out: str
    err: str

    @property
    def ok(self) -> bool:
        return self.status == 0


@dataclass(frozen=True)
class Transfer:
    """A file for the box. `target`: an absolute path without a backslash or a newline."""

    source: Path
    target: str
    mode: str = "0644"


class Shell:
    """A connection to a box that is let in already. Safe for several threads at once."""

    def __init__(self, client: paramiko.SSHClient, name: str, sudo: bool) -> None:
        self._client = client
        self._name = name
        self._sudo = sudo

    def close(self) -> None:
        self._client.close()

    @property
    def alive(self) -> bool:
        """Whether the connection still stands, as far as is known."""
        transport = self._client.get_transport()
        return transport is not None and transport.is_active()

    def run(
        self,
        argv: Sequence[str],
        deadline: Deadline,
        *,
        root: bool = True,
        check: bool = True,
        send: bytes = b"",
    ) -> Said:
        """Run a command on the box to its end.

        `root`: as root, by sudo if need be. `send`: its standard input. Unreachable when the connection
        breaks, InfraError when the deadline passes or, with `check`, for a status other than 0.
        """
        with self._channel(deadline) as channel:
            errors: list[bytes] = []
            reader = threading.Thread(target=_drain, args=(channel.recv_stderr, errors), daemon=True)
            try:
                channel.exec_command(self._quoted(argv, root))
                reader.start()
                if send:
                    channel.sendall(send)
                channel.shutdown_write()
                out = bytearray()
                while data := self._next(channel, deadline, argv):
                    out += data
                if not channel.status_event.wait(deadline.remaining):
                    raise InfraError(f"box {self._name}: {argv[0]} did not end in time")
                reader.join(1.0)
            except (paramiko.SSHException, OSError, EOFError) as error:
                raise Unreachable(f"box {self._name}: the connection broke: {error}") from error
            status = channel.recv_exit_status()
        if status < 0:
            raise Unreachable(f"box {self._name}: the connection broke while {argv[0]} ran")
        said = Said(status, _text(bytes(out)), _text(b"".join(errors)))
        if check and not said.ok:
            why = (said.err.strip() or said.out.strip())[-_SHOWN:]
            raise InfraError(f"box {self._name}: {shlex.join(argv)} failed with status {status}: {why}")
        return said

    def follow(
        self,
        argv: Sequence[str],
        on_data: Callable[[bytes], None],
        stop: threading.Event,
        silent_s: float = math.inf,
    ) -> int | None:
        """Run a command and hand on what it prints as it comes; its exit status, None once `stop` is set.

        Unreachable when the connection breaks, Silent when nothing came for so long.
        """
        # Before it can say anything, it has to be started, which takes seconds on a machine that is busy.
        heard = time.monotonic() + CONNECT_S
        with self._channel(Deadline.after(CONNECT_S)) as channel:
            try:
                channel.exec_command(self._quoted(argv, True))
                channel.settimeout(0.1)
                while not stop.is_set():
                    try:
                        data = channel.recv(_CHUNK)
                    except TimeoutError:
                        if not self.alive:
                            break
                        if time.monotonic() - heard >= silent_s:
                            raise Silent(f"box {self._name}: silent for {silent_s:g} s") from None
                        continue
                    heard = time.monotonic()
                    if not data:
                        channel.status_event.wait(1.0)
                        break
                    on_data(data)
            except (paramiko.SSHException, OSError, EOFError) as error:
                raise Unreachable(f"box {self._name}: the connection broke: {error}") from error
            if stop.is_set():
                return None
            status = channel.exit_status
        if status < 0:
            raise Unreachable(f"box {self._name}: the connection broke")
        return status

    def put(self, files: Sequence[Transfer], deadline: Deadline) -> list[str]:
        """Copy files to the box, verified by SHA-256; the names of those that were not there already.

        Missing folders are made. InfraError if one does not arrive whole, as on a full disk.
        """
        digests = {file.target: sha256_file(file.source) for file in files}
        there = self._sha256(list(digests), deadline)
        missing = [file for file in files if there.get(file.target) != digests[file.target]]
        if not missing:
            return []
        folder = self.run(["mktemp", "-d"], deadline, root=False).out.strip()
        try:
            for number, file in enumerate(missing):
                draft = f"{folder}/{number}"
                self._copy(file.source, draft, deadline)
                self.run(["install", "-D", "-m", file.mode, draft, file.target], deadline)
        finally:
            with contextlib.suppress(InfraError):
                self.run(["rm", "-rf", folder], deadline)
        there = self._sha256([file.target for file in missing], deadline)
        for file in missing:
            if there.get(file.target) != digests[file.target]:
                raise self._damaged(file.target)
        return [Path(file.target).name for file in missing]

    def write(self, data: bytes, target: str, deadline: Deadline) -> None:
        """Replace a small file on the box in one step. InfraError if it cannot be written."""
        draft = f"{target}.new"
        self.run(["tee", draft], deadline, send=data)
        if self.run(["cat", draft], deadline).out.encode() != data:
            raise InfraError(
                f"box {self._name}: {draft} did not arrive as it was sent", hint="look at its disk"
            )
        self.run(["mv", draft, target], deadline)

    def fetch(self, source: str, target: Path, deadline: Deadline) -> None:
        """Copy a file of the box, which root may read."""
        with self._channel(deadline) as channel, target.open("wb") as sink:
            argv = ["cat", source]
            channel.exec_command(self._quoted(argv, True))
            while data := self._next(channel, deadline, argv):
                sink.write(data)
            if channel.recv_exit_status():
                raise InfraError(f"box {self._name}: cannot read {source}")

    def _copy(self, source: Path, target: str, deadline: Deadline) -> None:
        try:
            with contextlib.closing(self._client.open_sftp()) as sftp, source.open("rb") as data:
                channel = sftp.get_channel()
                if channel:
                    channel.settimeout(max(1.0, deadline.remaining))
                sftp.putfo(data, target, file_size=source.stat().st_size, confirm=True)
        except (paramiko.SSHException, OSError, EOFError) as error:
            why = "no time left" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
            raise InfraError(
                f"box {self._name}: cannot copy {source.name} to {target}: {why}",
                hint="is there room on its disk (df)?",
            ) from error

    def _damaged(self, target: str) -> InfraError:
        return InfraError(
            f"box {self._name}: {target} did not arrive as it was sent", hint="is its disk full, or failing?"
        )

    def _sha256(self, paths: Sequence[str], deadline: Deadline) -> dict[str, str]:
        """Of the files that are there."""
        said = self.run(["sha256sum", "--", *paths], deadline, check=False)
        rows = (line.split(maxsplit=1) for line in said.out.splitlines())
        return {name: digest for digest, name in rows}

    def _quoted(self, argv: Sequence[str], root: bool) -> str:
        """The one place where words become a line of a shell."""
        return shlex.join(["sudo", "-n", "--", *argv] if root and self._sudo else argv)

    @contextlib.contextmanager
    def _channel(self, deadline: Deadline) -> Iterator[paramiko.Channel]:
        transport = self._client.get_transport()
        if transport is None or not transport.is_active():
            raise Unreachable(f"box {self._name}: the connection broke")
        try:
            channel = transport.open_session(timeout=max(0.1, deadline.remaining))
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise Unreachable(f"box {self._name}: the connection broke: {error}") from error
        with contextlib.closing(channel):
            yield channel

    def _next(self, channel: paramiko.Channel, deadline: Deadline, argv: Sequence[str]) -> bytes:
        channel.settimeout(max(0.001, deadline.remaining))
        try:
            return channel.recv(_CHUNK)
        except TimeoutError:
            raise InfraError(f"box {self._name}: {argv[0]} did not end in time") from None


def connect(name: str, ssh: Ssh, timeout_s: float = CONNECT_S) -> Shell:
    """Log in to a box.

    HostKeyError, NotLetIn or Unreachable if it cannot be.
    """
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    where = f"box {name} ({ssh.user}@{ssh.host}, port {ssh.port})"
    try:
        client.load_host_keys(ssh.known_hosts)
        client.connect(
            ssh.host,
            ssh.port,
            ssh.user,
            pkey=_private_key(ssh.key) if ssh.key else None,
            allow_agent=ssh.key is None,
            look_for_keys=ssh.key is None,
            timeout=timeout_s,
            banner_timeout=timeout_s,
            auth_timeout=timeout_s,
            channel_timeout=timeout_s,
        )
        transport = client.get_transport()
        if transport is None:
            raise Unreachable(f"{where} does not answer: the connection broke")
        transport.set_keepalive(KEEPALIVE_S)
        # A command is some small packets in a row: each would wait for the answer to the one before, 40 ms.
        assert isinstance(transport.sock, socket.socket)
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException as error:
        client.close()
        match error:
            case paramiko.BadHostKeyException():
                raise HostKeyError(
                    f"{where}: its host key is not the one in {ssh.known_hosts}",
                    hint="another machine answers, or it was installed anew: find out, then correct the file",
                ) from error
            case paramiko.SSHException() if "not found in known_hosts" in str(error):
                raise HostKeyError(
                    f"{where}: its host key is not in {ssh.known_hosts}",
                    hint=f"ssh-keyscan -p {ssh.port} {ssh.host} prints it: compare it with its own",
                ) from error
            case paramiko.SSHException() if "No authentication methods" in str(error):
                raise NotLetIn(
                    f"{where}: there is no key to log in with",
                    hint="name one (`key`) in the target's file, or add one to an ssh-agent",
                ) from error
            case paramiko.AuthenticationException():
                raise NotLetIn(f"{where} does not let us in: {error}", hint="try it with ssh") from error
            case paramiko.SSHException() | OSError() | EOFError():
                why = getattr(error, "strerror", None) or str(error) or type(error).__name__
                why = why.replace("No existing session", "something listens there, but does not greet")
                raise Unreachable(f"{where} does not answer: {why}") from error
            case _:
                raise
    return Shell(client, name, ssh.sudo)


def _private_key(path: str) -> paramiko.PKey:
    # `key_filename` tries the file as a key of each type, and raises what the last one says.
    try:
        return paramiko.PKey.from_path(path)
    except (TypeError, paramiko.PasswordRequiredException) as error:
        raise NotLetIn(
            f"the key {path} needs a passphrase", hint="leave out `key`, and add it to an ssh-agent"
        ) from error
    except (OSError, ValueError, paramiko.SSHException, paramiko.pkey.UnknownKeyType) as error:
        raise NotLetIn(f"cannot read the key {path}: {error}") from error


def greets(ssh: Ssh, timeout_s: float) -> bool:
    """Whether an SSH server says what it is: user space lives, whether or not it lets us in."""
    with contextlib.suppress(OSError), socket.create_connection((ssh.host, ssh.port), timeout_s) as greeted:
        greeted.settimeout(timeout_s)
        return greeted.recv(4) == b"SSH-"
    return False


def _drain(receive: Callable[[int], bytes], parts: list[bytes]) -> None:
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        while data := receive(_CHUNK):
            parts.append(data)


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="backslashreplace")
