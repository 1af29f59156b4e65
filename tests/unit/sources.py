# SPDX-License-Identifier: GPL-2.0-only
"""What the tests of kernel trees share: archives and repositories of the toy, a server on the loopback."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from harness.deadline import Deadline
from harness.kernel.spec import TarballSpec
from tests.ports import free_port
from tests.unit.kernelroom import write_toy


def soon() -> Deadline:
    return Deadline.after(60)


class Server(http.server.ThreadingHTTPServer):
    """Serves one file on the loopback, with ranges; the first answer ends after `cut` bytes."""

    def __init__(self, content: bytes, cut: int | None = None, ranges: bool = True) -> None:
        self.content = content
        self.cut = cut
        self.ranges = ranges
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/linux-7.3.4.tar.xz"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.server.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if start and start >= len(self.server.content):
            self.send_error(416)
            return
        body = self.server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.cut is not None:
            body, self.server.cut = body[: self.server.cut], None
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving(content: bytes, cut: int | None = None, ranges: bool = True) -> Iterator[Server]:
    server = Server(content, cut, ranges)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def archive(tmp_path: Path, mode: str = "w:xz", *, extra: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    """A release tarball of the toy, its bytes."""
    toy = write_toy(tmp_path / "packed/linux-7.3.4")
    (toy / "mm/link.c").symlink_to("../mm/memory.c")
    held = io.BytesIO()
    # The stream mode is chosen by the test.
    with tarfile.open(fileobj=held, mode=mode) as tar:  # type: ignore[call-overload]
        tar.add(toy, "linux-7.3.4")
        for member in extra:
            tar.addfile(member)
    shutil.rmtree(tmp_path / "packed")
    return held.getvalue()


def spec_for(url: str, content: bytes) -> TarballSpec:
    return TarballSpec(url, hashlib.sha256(content).hexdigest())


def git(folder: Path, *words: str) -> str:
    return subprocess.run(
        ["git", "-c", "user.name=T", "-c", "user.email=t@example.org", "-C", str(folder), *words],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


@contextlib.contextmanager
def git_daemon(folder: Path) -> Iterator[str]:
    """A git server of the repositories below a folder, on the loopback; its URL."""
    port = free_port()
    server = subprocess.Popen(
        [
            "git",
            "daemon",
            "--reuseaddr",
            "--listen=127.0.0.1",
            f"--port={port}",
            "--export-all",
            f"--base-path={folder}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = soon()
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
            assert server.poll() is None
            assert not deadline.expired
            time.sleep(0.02)
        yield f"git://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def import_history(
    folder: Path, parents: Sequence[Sequence[int]], files: Callable[[int], Mapping[str, str]]
) -> list[str]:
    """A repository of many commits, made in one go; their ids, parents before children.

    parents: of each commit, positions of earlier ones; none: a root, which holds the toy. files: what a
    commit writes (path -> text). Branch main is the last one; nothing is checked out.
    """
    git(folder.parent, "init", "-q", "-b", "main", str(folder))
    toy = write_toy(folder.parent / f"{folder.name}-toy")
    initial = {str(path.relative_to(toy)): path.read_text("utf-8") for path in toy.rglob("*.*")}
    initial |= {name: (toy / name).read_text("utf-8") for name in ("Makefile", "Kconfig")}
    stream: list[str] = []
    for place, before in enumerate(parents):
        # A commit without "from" on a new ref is a root.
        stream += [f"commit refs/import/{place}", f"mark :{place + 1}"]
        stream += [
            f"committer T <t@example.org> {1_700_000_000 + 60 * place} +0000",
            _data(f"change {place}"),
        ]
        stream += [f"{'merge' if rank else 'from'} :{parent + 1}" for rank, parent in enumerate(before)]
        for path, text in (files(place) if before else {**initial, **files(place)}).items():
            stream += [f"M 100644 inline {path}", _data(text)]
    marks = folder / ".git/marks"
    subprocess.run(
        ["git", "-C", str(folder), "fast-import", "--quiet", "--done", f"--export-marks={marks}"],
        input="\n".join([*stream, "done", ""]).encode(),
        check=True,
    )
    ids = dict(line.split() for line in marks.read_text("utf-8").splitlines())
    marks.unlink()
    commits = [ids[f":{place + 1}"] for place in range(len(parents))]
    git(folder, "update-ref", "refs/heads/main", commits[-1])
    return commits


def _data(text: str) -> str:
    return f"data {len(text.encode())}\n{text}"


def make_repository(folder: Path) -> Path:
    """Two commits: v1 is tagged, branch main is one ahead and says locked = 2; the checkout is dirty."""
    write_toy(folder)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    git(folder, "tag", "v1")
    memory = folder / "mm/memory.c"
    memory.write_text(
        memory.read_text(encoding="utf-8").replace("locked = 1", "locked = 2"), encoding="utf-8"
    )
    git(folder, "commit", "-q", "-a", "-m", "second")
    memory.write_text("dirty\n", encoding="utf-8")
    return folder
