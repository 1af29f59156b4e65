# SPDX-License-Identifier: GPL-2.0-only
"""An SSH server on loopback whose commands really run, on this machine: the user space of a box."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import paramiko
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED, cMSG_CHANNEL_SUCCESS

from harness.target.box.config import Ssh


class _Files(paramiko.SFTPServerInterface):
    def open(self, path: str, flags: int, attr: paramiko.SFTPAttributes) -> paramiko.SFTPHandle | int:
        try:
            descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)
        handle = paramiko.SFTPHandle(flags)
        file = os.fdopen(descriptor, "r+b", buffering=0)
        handle.readfile = handle.writefile = file  # type: ignore[attr-defined]
        return handle

    def stat(self, path: str) -> paramiko.SFTPAttributes | int:
        try:
            return paramiko.SFTPAttributes.from_stat(os.stat(path))
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)


class _Session(paramiko.ServerInterface):
    def __init__(self, allowed: str, environment: dict[str, str]) -> None:
        self._allowed = allowed
        self._environment = environment

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return AUTH_SUCCESSFUL if key.get_base64() == self._allowed else AUTH_FAILED

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        # The library says so after this has returned; a quick one may have closed the channel by then.
        started = paramiko.Message()
        started.add_byte(cMSG_CHANNEL_SUCCESS)
        started.add_int(channel.remote_chanid)
        channel.get_transport()._send_user_message(started)  # type: ignore[attr-defined]
        threading.Thread(target=self._run, args=(channel, command.decode()), daemon=True).start()
        return True

    def _run(self, channel: paramiko.Channel, command: str) -> None:
        child = subprocess.Popen(
            ["sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **self._environment},
            bufsize=0,
        )
        assert child.stdin and child.stdout and child.stderr
        stdin, errors = child.stdin, child.stderr

        cut = contextlib.suppress(OSError, EOFError)  # by whoever has the server, or the client

        def feed() -> None:
            with cut, stdin:
                while data := channel.recv(65536):
                    stdin.write(data)

        def complain() -> None:
            with cut:
                channel.sendall_stderr(errors.read())

        threading.Thread(target=feed, daemon=True).start()
        err = threading.Thread(target=complain)
        err.start()
        with cut:
            try:
                while data := child.stdout.read(65536):
                    channel.sendall(data)
                err.join()
                channel.send_exit_status(child.wait())
                channel.close()
            finally:
                child.kill()
                child.wait()


class SshServer:
    """Listens until closed. `cut()` breaks every connection that stands, as a cable would."""

    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        self._host_key = paramiko.ECDSAKey.generate()
        client = paramiko.ECDSAKey.generate()
        client.write_private_key_file(str(folder / "key"))
        self._allowed = client.get_base64()
        self._environment = environment or {}
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._transports: list[paramiko.Transport] = []
        self.ssh = Ssh(
            host="127.0.0.1", port=self.port, user="root", key=str(folder / "key"),
            known_hosts=str(folder / "known_hosts"),
        )  # fmt: skip
        self.know(self._host_key)
        threading.Thread(target=self._serve, daemon=True).start()

    def know(self, key: paramiko.PKey | None) -> None:
        """What the client is told of the server's key; None: nothing."""
        line = f"[127.0.0.1]:{self.port} {key.get_name()} {key.get_base64()}\n" if key else ""
        Path(self.ssh.known_hosts).write_text(line, encoding="utf-8")

    def cut(self) -> None:
        for transport in self._transports:
            transport.close()
        self._transports.clear()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # wakes whoever accepts
        self._socket.close()
        self.cut()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                transport = paramiko.Transport(connection)
                transport.add_server_key(self._host_key)
                transport.set_subsystem_handler("sftp", paramiko.SFTPServer, _Files)
                self._transports.append(transport)
                with contextlib.suppress(paramiko.SSHException, EOFError):
                    transport.start_server(
                        event=threading.Event(), server=_Session(self._allowed, self._environment)
                    )


@contextlib.contextmanager
def ssh_server(folder: Path, **environment: str) -> Iterator[SshServer]:
    """A server whose key the client knows; `environment`: of its commands."""
    server = SshServer(folder, environment)
    try:
        yield server
    finally:
        server.close()
