# SPDX-License-Identifier: GPL-2.0-only
"""What the tests of kernel trees share: archives and repositories of the toy, a server on the loopback."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

from harness.deadline import Deadline
from harness.kernel.spec import TarballSpec
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
