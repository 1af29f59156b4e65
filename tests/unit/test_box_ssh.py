# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from harness.deadline import Deadline
from harness.errors import InfraError
from harness.target.box.ssh import HostKeyError, NotLetIn, Shell, Transfer, Unreachable, connect, greets
from tests.unit.boxroom import SshServer, ssh_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with ssh_server(tmp_path_factory.mktemp("ssh")) as running:
        yield running


@pytest.fixture
def shell(server: SshServer) -> Iterator[Shell]:
    shell = connect("lab1", server.ssh)
    yield shell
    shell.close()


def soon() -> Deadline:
    return Deadline.after(20)


def test_words_arrive_as_they_are(shell: Shell) -> None:
    words = ["a b", "$HOME", "it's", '"', "*", "", "\\", "; rm -rf /", "zwei\nZeilen"]
    assert shell.run(["printf", "%s|", *words], soon()).out == "".join(f"{word}|" for word in words)


def test_status_and_both_outputs(shell: Shell) -> None:
    said = shell.run(["sh", "-c", "echo out; echo err >&2; exit 7"], soon(), check=False)
    assert (said.status, said.out, said.err) == (7, "out\n", "err\n")
    with pytest.raises(InfraError, match=r"box lab1: .* failed with status 7: err"):
        shell.run(["sh", "-c", "echo err >&2; exit 7"], soon())
    assert shell.run(["cat"], soon(), send=b"x" * 300_000).out == "x" * 300_000


def test_a_command_that_does_not_end(shell: Shell) -> None:
    with pytest.raises(InfraError, match="sleep did not end in time"):
        shell.run(["sleep", "30"], Deadline.after(0.2))
    assert shell.run(["true"], soon()).ok  # the connection is none the worse


def test_a_file_arrives_whole_and_only_once(shell: Shell, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "far away" / "target"
    source.write_bytes(bytes(range(256)) * 999)
    files = [Transfer(source, str(target), "0755"), Transfer(source, str(tmp_path / "other"))]
    assert shell.put(files, soon()) == ["target", "other"]
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_mode & 0o777 == 0o755
    assert shell.put(files, soon()) == []
    target.write_bytes(b"damaged")
    assert shell.put(files, soon()) == ["target"]
    shell.write(b"all of it\n", str(target), soon())
    shell.fetch(str(target), tmp_path / "back", soon())
    assert (tmp_path / "back").read_bytes() == b"all of it\n"


def test_a_disk_that_is_full(shell: Shell, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"data")
    (tmp_path / "target.new").symlink_to("/dev/full")
    with pytest.raises(InfraError, match="No space left on device"):
        shell.write(b"data", str(tmp_path / "target"), soon())
    assert not (tmp_path / "target").exists()
    with pytest.raises(InfraError):
        shell.put([Transfer(source, "/proc/nowhere/target")], soon())


def test_sudo_is_asked_for_nothing(server: SshServer, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "sudo").write_text('#!/bin/sh\nprintf "%s," "$@"\n')
    (tools / "sudo").chmod(0o755)
    (tmp_path / "with").mkdir()
    with ssh_server(tmp_path / "with", PATH=f"{tools}:/bin:/usr/bin") as other:
        shell = connect("lab1", other.ssh.model_copy(update={"sudo": True}))
        assert shell.run(["reboot", "a b"], soon()).out == "-n,--,reboot,a b,"
        assert shell.run(["echo", "me"], soon(), root=False).out == "me\n"
        shell.close()


def test_a_key_that_only_the_agent_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A socket's path has to be short.
    with ssh_server(tmp_path) as server, tempfile.TemporaryDirectory() as place:
        monkeypatch.setenv("SSH_AUTH_SOCK", f"{place}/agent")
        monkeypatch.setenv("HOME", str(tmp_path))  # nobody's ~/.ssh
        ssh = server.ssh.model_copy(update={"key": None})
        with pytest.raises(NotLetIn, match="there is no key to log in with"):
            connect("lab1", ssh)
        argv = ["ssh-agent", "-D", "-a", f"{place}/agent"]
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as agent:
            deadline = soon()
            while subprocess.run(["ssh-add", "-q", str(server.ssh.key)], check=False).returncode:
                assert not deadline.expired
            shell = connect("lab1", ssh)
            assert shell.run(["true"], soon()).ok
            shell.close()
            agent.terminate()


def test_a_connection_that_breaks(tmp_path: Path) -> None:
    with ssh_server(tmp_path) as server:
        shell = connect("lab1", server.ssh)
        heard: list[bytes] = []

        def hear_and_cut(data: bytes) -> None:
            heard.append(data)
            server.cut()

        with pytest.raises(Unreachable, match="box lab1: the connection broke"):
            shell.follow(["sh", "-c", "echo here; sleep 30"], hear_and_cut, threading.Event())
        assert heard == [b"here\n"]
        with pytest.raises(Unreachable):
            shell.run(["true"], soon())


def test_what_follows_ends_with_its_status(shell: Shell) -> None:
    heard: list[bytes] = []
    assert shell.follow(["sh", "-c", "echo one; exit 3"], heard.append, threading.Event()) == 3
    assert b"".join(heard) == b"one\n"
    stop = threading.Event()
    stop.set()
    assert shell.follow(["sleep", "30"], heard.append, stop) is None


def test_no_key_is_accepted_unseen(tmp_path: Path) -> None:
    with ssh_server(tmp_path) as server:
        server.know(None)
        with pytest.raises(HostKeyError, match=r"host key is not in .*known_hosts") as unknown:
            connect("lab1", server.ssh)
        assert unknown.value.exit_code == 2
        assert "ssh-keyscan" in unknown.value.hint
        assert Path(server.ssh.known_hosts).read_text() == ""
        server.know(paramiko.RSAKey.generate(1024))
        with pytest.raises(HostKeyError):
            connect("lab1", server.ssh)
        server.know(paramiko.ECDSAKey.generate())
        with pytest.raises(HostKeyError, match="host key is not the one"):
            connect("lab1", server.ssh)


def test_who_is_not_let_in(tmp_path: Path) -> None:
    with ssh_server(tmp_path) as server:
        paramiko.ECDSAKey.generate().write_private_key_file(str(tmp_path / "other"))
        with pytest.raises(NotLetIn, match="does not let us in"):
            connect("lab1", server.ssh.model_copy(update={"key": str(tmp_path / "other")}))
        (tmp_path / "other").write_text("no key")
        with pytest.raises(NotLetIn, match="cannot read the key"):
            connect("lab1", server.ssh.model_copy(update={"key": str(tmp_path / "other")}))
        paramiko.ECDSAKey.generate().write_private_key_file(str(tmp_path / "locked"), password="secret")
        with pytest.raises(NotLetIn, match="needs a passphrase"):
            connect("lab1", server.ssh.model_copy(update={"key": str(tmp_path / "locked")}))
        assert greets(server.ssh, 5)
    assert not greets(server.ssh, 0.2)
    with pytest.raises(Unreachable, match=r"box lab1 \(root@127.0.0.1, port \d+\) does not answer"):
        connect("lab1", server.ssh, timeout_s=1)
