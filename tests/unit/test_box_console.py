# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import contextlib
import os
import pty
import queue
import socket
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InfraError
from harness.target.box import console as console_module
from harness.target.box import contact
from harness.target.box.config import BoxConfig, Console, Power, Ssh
from harness.target.box.console import BoxConsole
from harness.target.box.machine import Box
from harness.target.box.power import CommandSwitch
from harness.target.box.telnet import Negotiation, escaped
from tests.ports import free_port


class Line:
    """The far end of a serial line on TCP: what comes, and a way to say something."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.where = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.got: queue.Queue[bytes] = queue.Queue()
        self._ends: queue.Queue[socket.socket] = queue.Queue()
        threading.Thread(target=self._serve, daemon=True).start()

    def end(self) -> socket.socket:
        """The next connection."""
        return self._ends.get(timeout=10)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._ends.put(connection)
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        while data := connection.recv(4096):
            self.got.put(data)

    def received(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += self.got.get(timeout=10)
        return data

    def close(self) -> None:
        with contextlib.suppress(OSError):  # closed before
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.close()


class Heard:
    def __init__(self) -> None:
        self.data = b""
        self._more = threading.Condition()

    def __call__(self, data: bytes) -> None:
        with self._more:
            self.data += data
            self._more.notify_all()

    def wait(self, wanted: bytes) -> None:
        with self._more:
            assert self._more.wait_for(lambda: wanted in self.data, timeout=10), self.data


def opened(notes: Callable[[str], None] = lambda text: None, **how: Any) -> BoxConsole:
    how = {name.rstrip("_"): value for name, value in how.items()}
    return BoxConsole("lab1", Console.model_validate(how), notes)


def test_what_a_console_says_and_is_told(line: Line) -> None:
    console, heard = opened(tcp=line.where, break_="~B"), Heard()
    end = line.end()
    with console.heard_by(heard):
        end.sendall(b"[    0.000000] Linux version\r\n\xff\x00")
        heard.wait(b"\xff\x00")
    console.type(b"\xff\r")
    console.sysrq("l")
    assert line.received(5) == b"\xff\r~Bl"
    console.close()
    assert not console.open


def test_telnet_is_taken_out_wherever_it_is_cut(line: Line) -> None:
    console, heard = opened(telnet=line.where), Heard()
    end = line.end()
    with console.heard_by(heard):
        # What QEMU begins with: it will echo and suppress go-ahead, binary both ways.
        for byte in b"\xff\xfb\x01\xff\xfb\x03\xff\xfb\x00\xff\xfd\x00\xff\xfb\x2aboot\xff\xff\xff":
            end.sendall(bytes((byte,)))
        end.sendall(b"\xf1ed\xff\xfa\x18\x01\xff\xf0!")
        heard.wait(b"!")
    assert heard.data == b"boot\xffed!"
    assert line.received(15) == b"\xff\xfd\x01\xff\xfd\x03\xff\xfd\x00\xff\xfb\x00\xff\xfe\x2a"
    console.sysrq("t")
    console.type(b"\xff")
    assert line.received(5) == b"\xff\xf3t\xff\xff"
    console.close()


def test_every_byte_survives_telnet() -> None:
    everything = bytes(range(256)) * 2
    assert Negotiation(lambda data: None).read(escaped(everything)) == everything


def test_a_line_that_is_closed_is_opened_again(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_module, "_AGAIN_S", 0.05)
    notes: list[str] = []
    console, heard = opened(notes.append, tcp=line.where), Heard()
    with console.heard_by(heard):
        end = line.end()
        end.sendall(b"before")
        heard.wait(b"before")
        end.shutdown(socket.SHUT_RDWR)
        again = line.end()
        again.sendall(b"after")
        heard.wait(b"after")
    assert notes == ["the console was closed: the other end closed it", "the console is open again"]
    console.close()


def answer(line: Line, end: socket.socket) -> None:
    """As a box does whose kernel and getty live."""
    while True:
        data = line.got.get()
        if b"h" in data:
            end.sendall(b"[  12.3] sysrq: HELP : loglevel(0-9) reboot(b)\r\n")
        if b"\r" in data:
            end.sendall(b"\r\nDebian GNU/Linux 13 lab1 ttyS0\r\n\r\nlab1 login: ")


def test_who_answers(line: Line) -> None:
    console = opened(tcp=line.where, break_="~B")
    assert not console.kernel_answers(0.05)
    threading.Thread(target=answer, args=(line, line.end()), daemon=True).start()
    assert console.kernel_answers(5)
    assert console.user_space_answers(5)
    console.close()


def test_a_box_that_only_its_network_has_left(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contact, "_ASK_S", 10.0)
    console = opened(tcp=line.where, break_="~B")
    threading.Thread(target=answer, args=(line, line.end()), daemon=True).start()
    ssh = Ssh(host="127.0.0.1", port=1)
    switch = CommandSwitch("lab1", Power(cycle=("true",), status=("echo", "it is", "on")))
    signs = contact.signs_of(Box(BoxConfig(name="lab1", ssh=ssh), ssh, console, switch))
    assert (signs.sshd, signs.kernel, signs.user_space, signs.power) == (False, True, True, True)
    assert signs.finding == "network"
    assert str(signs).endswith("kernel on the console: yes, user space on the console: yes, power: yes")
    console.close()


def test_a_command_is_a_console(tmp_path: Path) -> None:
    program = ("sh", "-c", 'tty >/dev/null && echo on a tty; read -r key; echo "got $key"; exec sleep 60')
    console, heard = opened(command=program), Heard()
    with console.heard_by(heard):
        console.type(b"q\n")
        heard.wait(b"got q")
    with pytest.raises(InfraError, match="knows no break"):
        console.sysrq("h")
    console.close()
    with pytest.raises(InfraError, match="cannot be started") as caught:
        opened(command=("/no/such/program", "-P", "Hunter2!"))
    assert "Hunter2!" not in f"{caught.value.message} {caught.value.hint}"


def test_a_tty() -> None:
    pytest.importorskip("serial")
    master, slave = pty.openpty()
    tty.setraw(slave)
    console, heard = opened(tty=os.ttyname(slave)), Heard()
    with console.heard_by(heard):
        os.write(master, b"hello from the far end")
        heard.wait(b"far end")
    console.type(b"x")
    assert os.read(master, 10) == b"x"
    console.close()
    os.close(master)
    os.close(slave)


def test_netconsole_listens() -> None:
    port = free_port(socket.SOCK_DGRAM)
    console, heard = opened(netconsole=f"127.0.0.1:{port}"), Heard()
    with console.heard_by(heard), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as kernel:
        kernel.sendto(b"[  1.0] watchdog: BUG: soft lockup\n", ("127.0.0.1", port))
        heard.wait(b"soft lockup\n")
        with pytest.raises(InfraError, match="only listens"):
            console.type(b"\r")
    console.close()


def test_a_line_that_nobody_serves(line: Line) -> None:
    line.close()
    time.sleep(0.05)
    with pytest.raises(InfraError, match="box lab1: cannot open the console: Connection refused"):
        opened(tcp=line.where)
