# SPDX-License-Identifier: GPL-2.0-only
"""The rule over a tree: which files are worth reading, what it marks there, and what could not be read."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.deadline import Deadline
from harness.disk import disk_errors
from harness.errors import InfraError, UserError
from harness.kernel.apply import PatchStack
from harness.kernel.spec import KernelTree
from harness.process import run
from harness.progress import Progress
from harness.siblings.known import Known, KnownHits
from harness.siblings.source import NAMES, attempts, body_of, function_at
from harness.siblings.spatch import Mode, check_control, marked_lines

_SUFFIXES = (".c", ".h")
_WORTH_READING = re.compile(rf"\b(?:{'|'.join(NAMES)})\b")


@dataclass(frozen=True)
class Line:
    """A line of a file, by its number."""

    number: int
    text: str


@dataclass(frozen=True)
class Hit:
    """The bug's shape: lines[0] tries the lock; the others drop the page table lock and return."""

    file: str
    function: str
    lines: tuple[Line, ...]
    known: Known | None

    @property
    def verdict(self) -> str:
        """`bug`, `harmless`, or `unknown` for a place that nobody has read."""
        return self.known.verdict if self.known else "unknown"


@dataclass(frozen=True)
class Unread:
    """A file in which spatch did not see these attempts at a lock: their functions were not judged."""

    file: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Search:
    """What a search found. files: how many try a folio's lock. tried: how many places in them do."""

    files: int
    tried: int
    hits: tuple[Hit, ...]
    unread: tuple[Unread, ...]

    @property
    def clean(self) -> bool:
        """True if every place was read, and none is a bug or unknown."""
        return not self.unread and all(hit.verdict == "harmless" for hit in self.hits)


def search(
    tree: KernelTree,
    stack: PatchStack,
    paths: Sequence[str],
    progress: Progress,
    deadline: Deadline,
    known: KnownHits | None = None,
) -> Search:
    """Run the rule over a tree with the patches of `stack` in, without touching the tree.

    `paths` are files and folders of the tree; none: all of it. UserError for one that is not there, and if
    nothing in them tries a folio's lock. InfraError if grep or spatch fail, spatch misses what it is known to
    find, or the deadline passes.
    """
    known = known or KnownHits.load()
    wanted = [_inside(path, tree, stack) for path in paths] or ["."]
    hits: list[Hit] = []
    unread: list[Unread] = []
    tried = 0
    with (
        disk_errors(Path(tempfile.gettempdir())),
        tempfile.TemporaryDirectory(prefix="hmm-harness-siblings-") as name,
        progress.step("siblings") as step,
    ):
        scratch = Path(name)
        step.update("looking for files that try a folio's lock")
        files = _worth_reading(tree, stack, wanted, deadline)
        if not files:
            raise UserError(
                f"no C file of {tree.description} below {', '.join(wanted)} tries a folio's lock",
                hint=f"the rule knows {' and '.join(NAMES)}; --path takes other files and folders",
            )
        with _at_once() as pool:
            control = pool.submit(check_control, scratch, deadline)
            sources = [_bring(tree, stack, path, scratch) for path in files]
            modes: tuple[Mode, ...] = ("attempts", "shape")
            asked = [
                [pool.submit(marked_lines, source, mode, scratch, deadline) for mode in modes]
                for source in sources
            ]
            control.result()
            for done, (path, source, (seen, marked)) in enumerate(zip(files, sources, asked, strict=True)):
                step.update(path, done, len(files))
                lines = source.read_text(encoding="utf-8", errors="replace").split("\n")
                there = attempts("\n".join(lines))
                tried += len(there)
                if missed := sorted(set(there) - set(seen.result())):
                    unread.append(Unread(path, _lines(lines, missed)))
                hits += _hits(path, lines, marked.result(), set(there), known)
    return Search(len(files), tried, tuple(hits), tuple(unread))


@contextlib.contextmanager
def _at_once() -> Iterator[ThreadPoolExecutor]:
    """A spatch on each CPU. What has not begun when the block is left, by an error or Ctrl-C, never does."""
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="spatch")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _inside(path: str, tree: KernelTree, stack: PatchStack) -> str:
    """A path of the tree in its plain form. UserError for one that leads elsewhere or nowhere."""
    plain = PurePosixPath(path)
    inside = not plain.is_absolute() and ".." not in plain.parts
    new = any(PurePosixPath(name).is_relative_to(plain) for name, content in stack.files.items() if content)
    if not inside or not (new or (tree.path / plain).exists()):
        raise UserError(
            f"{tree.description} has no {path}", hint="--path takes a file or folder of the tree, as in mm"
        )
    return str(plain)


def _worth_reading(
    tree: KernelTree, stack: PatchStack, wanted: Sequence[str], deadline: Deadline
) -> list[str]:
    """The C files below `wanted` that name a trylock, in order, as they are with the patches in."""
    there = [path for path in wanted if (tree.path / path).exists()]
    includes = [f"--include=*{suffix}" for suffix in _SUFFIXES]
    pattern = rf"\b({'|'.join(NAMES)})\b"
    done = run(
        ["grep", "-rlIZE", *includes, "-e", pattern, "--", *(there or ["/dev/null"])],
        cwd=tree.path,
        env={"LC_ALL": "C"},
        deadline=deadline,
        check=False,
        merge_stderr=False,
    )
    if done.status not in (0, 1):
        raise InfraError(f"grep failed with status {done.status}: {done.errors.strip()[-400:]}")
    found = {str(PurePosixPath(path)) for path in done.output.split("\0") if path}
    for path, content in stack.files.items():
        found.discard(path)
        below = any(PurePosixPath(path).is_relative_to(place) for place in wanted)
        if content is None or not below or not path.endswith(_SUFFIXES):
            continue
        if _WORTH_READING.search(content.decode("utf-8", errors="replace")):
            found.add(path)
    return sorted(found)


def _bring(tree: KernelTree, stack: PatchStack, path: str, scratch: Path) -> Path:
    """Where the file can be read: in the tree, or in `scratch` if a patch changes it."""
    content = stack.files.get(path)
    if content is None:
        return tree.path / path
    file = scratch / "patched" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def _hits(
    path: str, lines: Sequence[str], marked: Sequence[int], there: set[int], known: KnownHits
) -> list[Hit]:
    """What is marked, by the attempts it belongs to: what follows an attempt in its function is its own."""
    places = {number: function_at(lines, number) for number in marked}
    found = []
    for number in marked:
        if number not in there:
            continue
        rest = [later for later in marked if later > number and later not in there]
        mine = [number, *(later for later in rest if places[later] == places[number])]
        function, start = places[number]
        about = known.of(path, function, lines[number - 1], body_of(lines, start))
        found.append(Hit(path, function, _lines(lines, mine), about))
    return found


def _lines(lines: Sequence[str], numbers: Sequence[int]) -> tuple[Line, ...]:
    return tuple(Line(number, " ".join(lines[number - 1].split())) for number in numbers)
