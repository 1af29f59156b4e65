# SPDX-License-Identifier: GPL-2.0-only
"""What a search for siblings found, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.kernel.apply import PatchStack
from harness.kernel.spec import KernelTree
from harness.layout import Part, Prose
from harness.siblings.search import Line, Search


def as_lines(found: Search, tree: KernelTree, stack: PatchStack, paths: Sequence[str]) -> Iterator[Part]:
    """Tree, patches, every hit with its lines and what is known of it, and the sum."""
    yield f"tree      {tree.description}"
    for applied in stack.patches:
        yield f"patch     {applied.patch.name}, {applied.status}"
    where = f" below {', '.join(paths)}" if paths else ""
    missed = sum(len(file.lines) for file in found.unread)
    yield (
        f"searched  {found.files} files{where} that try a folio's lock, {found.tried} places: "
        f"{found.tried - missed} read"
    )
    for hit in found.hits:
        yield f"{hit.verdict:<8}  {hit.file}:{hit.lines[0].number} {hit.function}()"
        yield from _source(hit.lines)
        why = (
            hit.known.why
            if hit.known
            else "nobody has read it: does anything sleep before the fault returns?"
        )
        yield Prose(why, indent=10, hang=10)
    for file in found.unread:
        yield f"not read  {file.file}: spatch could not parse what is around"
        yield from _source(file.lines)
    counts = ", ".join(
        f"{sum(hit.verdict == verdict for hit in found.hits)} {verdict}"
        for verdict in ("bug", "unknown", "harmless")
    )
    yield f"found     {counts}; files that could not be parsed in full: {len(found.unread)}"


def _source(lines: Sequence[Line]) -> Iterator[str]:
    for line in lines:
        yield f"{line.number:>14}  {line.text}"


def as_json(found: Search, tree: KernelTree, stack: PatchStack, paths: Sequence[str]) -> dict[str, object]:
    """The same as JSON values."""
    return {
        "tree": {"description": tree.description, "version": tree.version, "ident": tree.ident},
        "patches": [{"patch": item.patch.name, "status": item.status} for item in stack.patches],
        "paths": list(paths),
        "files": found.files,
        "places": found.tried,
        "hits": [
            {
                "file": hit.file,
                "line": hit.lines[0].number,
                "function": hit.function,
                "lines": [{"line": line.number, "text": line.text} for line in hit.lines],
                "verdict": hit.verdict,
                "why": hit.known.why if hit.known else None,
            }
            for hit in found.hits
        ],
        "unread": [
            {
                "file": file.file,
                "lines": [{"line": line.number, "text": line.text} for line in file.lines],
            }
            for file in found.unread
        ],
        "clean": found.clean,
    }
