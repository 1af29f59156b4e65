# SPDX-License-Identifier: GPL-2.0-only
"""Downloads that resume and are verified."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from harness.cache import sha256_file
from harness.deadline import Deadline
from harness.disk import disk_errors
from harness.errors import InfraError, UserError
from harness.progress import Step

#: Seconds without a byte after which a server counts as gone.
STALL_S = 30.0
_CHUNK = 1 << 20
#: How often a connection that broke is taken up again, each time where it broke.
_ATTEMPTS = 4


def download(url: str, sha256: str, target: Path, step: Step, deadline: Deadline) -> Path:
    """Download `url` to `target` and check its SHA-256; `target` only ever holds the right content.

    What arrived before an interruption is in `target`.part, and the next call asks the server for the rest.
    UserError for a URL of another kind or a wrong hash (both are shown), InfraError for a server that fails.
    """
    scheme = urlsplit(url).scheme
    if scheme not in ("http", "https", "file"):
        raise UserError(
            f"{url}: cannot download from {scheme or 'that'}", hint="http, https and file are known"
        )
    if target.is_file():
        return target
    part = target.with_name(target.name + ".part")
    resumed = part.exists()
    _fetch(url, part, step, deadline)
    found = sha256_file(part)
    if found != sha256 and resumed:
        # What lay there may have been of another file: once more from the start.
        part.unlink()
        _fetch(url, part, step, deadline)
        found = sha256_file(part)
    if found != sha256:
        part.unlink()
        raise UserError(
            f"{url} has the wrong SHA-256:\n  expected {sha256}\n  found    {found}",
            hint="correct the hash, or the URL; the download was thrown away",
        )
    part.rename(target)
    return target


def _fetch(url: str, part: Path, step: Step, deadline: Deadline) -> None:
    reason = ""
    for _ in range(_ATTEMPTS):
        if deadline.expired:
            raise InfraError(f"{url} did not arrive in time", hint="what arrived is kept; run it again")
        try:
            if _fetch_once(url, part, step, deadline):
                return
            reason = "the connection ended early"
        except urllib.error.HTTPError as error:
            if error.code == 416:
                # Nothing left to send: the file is complete, or it is another one; the hash tells.
                return
            raise InfraError(
                f"{url}: the server says {error.code} {error.reason}", hint="is the URL right?"
            ) from error
        except urllib.error.URLError as error:
            raise InfraError(
                f"{url} cannot be reached: {error.reason}", hint="check the network, or the URL; run it again"
            ) from error
        except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
    raise InfraError(f"{url}: {reason}", hint="what arrived is kept; run it again to go on from there")


def _fetch_once(url: str, part: Path, step: Step, deadline: Deadline) -> bool:
    """Fetch what is missing of a file; False if the connection ended before all of it was there."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=min(STALL_S, deadline.remaining + 0.1)) as answer:
        partial = answer.status == 206
        length = answer.headers.get("Content-Length")
        start = have if partial else 0
        total = start + int(length) if length else 0
        with disk_errors(part), part.open("ab" if partial else "wb") as sink:
            while chunk := answer.read(_CHUNK):
                sink.write(chunk)
                step.update("MB", sink.tell() // 1000000, total // 1000000)
                if deadline.expired:
                    raise InfraError(
                        f"{url} did not arrive in time", hint="what arrived is kept; run it again"
                    )
        return not total or part.stat().st_size >= total
