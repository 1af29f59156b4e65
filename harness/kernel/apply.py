# SPDX-License-Identifier: GPL-2.0-only
"""Patches tried on a tree before they are applied, in a scratch folder that holds the touched files only."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unidiff.errors import UnidiffParseError
from unidiff.patch import PatchedFile, PatchSet

from harness.deadline import Deadline
from harness.disk import disk_errors
from harness.errors import InfraError, UserError
from harness.kernel.patches import Patch
from harness.kernel.spec import KernelTree
from harness.process import Completed, run

#: Seconds git may take for one patch.
_APPLY_S = 60.0
#: Lines of the tree and of a hunk that an error shows at most.
_SHOWN = 14

Status = Literal["applied", "already there"]


@dataclass(frozen=True)
class Applied:
    """A patch, and what became of it."""

    patch: Patch
    status: Status


@dataclass(frozen=True)
class PatchStack:
    """A tree's files that differ once all patches are in, by path: their content, None for a deleted one."""

    files: Mapping[str, bytes | None]
    patches: tuple[Applied, ...]


def apply_patches(tree: KernelTree, patches: Sequence[Patch]) -> PatchStack:
    """Apply patches in order, without touching the tree.

    UserError for a patch that conflicts (it names hunk, file and line, and shows what the tree has there), is
    damaged, or reaches outside the tree. InfraError if the scratch folder cannot be written.
    """
    place = Path(tempfile.gettempdir())
    done: list[Applied] = []
    touched: dict[str, None] = {}
    with disk_errors(place), tempfile.TemporaryDirectory(prefix="hmm-harness-patch-") as name:
        scratch = Path(name)
        (scratch / "tree").mkdir()
        for patch in patches:
            parsed, strip = _read(patch, tree.path, scratch / "tree")
            for path in _paths(parsed, strip, patch):
                if path not in touched:
                    _bring(tree.path, scratch / "tree", path)
                    touched[path] = None
            done.append(Applied(patch, _apply(patch, parsed, strip, scratch, tree)))
        files: dict[str, bytes | None] = {}
        for path in touched:
            after, before = _content(scratch / "tree" / path), _content(tree.path / path)
            if after != before:
                files[path] = after
    return PatchStack(files, tuple(done))


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _bring(source: Path, scratch: Path, path: str) -> None:
    if (source / path).is_file():
        (scratch / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, scratch / path)
        (scratch / path).chmod((source / path).stat().st_mode & 0o777 | 0o600)


def _read(patch: Patch, tree: Path, scratch: Path) -> tuple[PatchSet, int]:
    """The parsed diff, and how many leading parts of its paths are not of the tree."""
    if "\nGIT binary patch" in patch.text or "\nBinary files " in patch.text:
        raise UserError(f"{patch.path} changes a binary file", hint="only changes to text are applied")
    try:
        parsed = PatchSet(patch.text)
    except UnidiffParseError as error:
        raise UserError(
            f"{patch.path} is damaged: {str(error).strip()}",
            hint="were its lines wrapped, or its blanks changed, by a mail program?",
        ) from error
    if not parsed:
        raise UserError(f"{patch.path} changes no file", hint="is it the right file?")
    first = next((name for name in (parsed[0].source_file, parsed[0].target_file) if name != "/dev/null"), "")
    plain = _path(first)
    stripped = plain.partition("/")[2]
    in_place = not plain.startswith(("a/", "b/")) and ((tree / plain).exists() or (scratch / plain).exists())
    return parsed, 0 if in_place and not (tree / stripped).is_file() else 1


def _path(name: str) -> str:
    return name.split("\t")[0].strip().strip('"')


def _paths(parsed: PatchSet, strip: int, patch: Patch) -> list[str]:
    """All paths a diff touches. UserError for one outside the tree."""
    names: list[str] = []
    for file in parsed:
        for name in (file.source_file, file.target_file):
            plain = _path(name)
            if plain == "/dev/null":
                continue
            path = plain if not strip or plain.startswith("/") else plain.partition("/")[2]
            parts = path.split("/")
            if not path or path.startswith("/") or ".." in parts or ".git" in parts:
                raise UserError(
                    f"{patch.path} touches {plain!r}, which is not in the tree", hint="it is refused"
                )
            names.append(path)
    return names


def _git_apply(scratch: Path, strip: int, *options: str) -> Completed:
    return run(
        ["git", "apply", "--verbose", f"-p{strip}", "--whitespace=nowarn", *options, str(scratch / "patch")],
        cwd=scratch / "tree",
        deadline=Deadline.after(_APPLY_S),
        # Without a repository around it git takes the paths as they are.
        env={"GIT_CEILING_DIRECTORIES": str(scratch), "LC_ALL": "C"},
        check=False,
    )


def _apply(patch: Patch, parsed: PatchSet, strip: int, scratch: Path, tree: KernelTree) -> Status:
    (scratch / "patch").write_bytes(patch.text.encode(errors="surrogateescape"))
    forward = _git_apply(scratch, strip, "--check")
    backward = _git_apply(scratch, strip, "--check", "--reverse")
    if backward.ok and (not forward.ok or _offset(backward) < _offset(forward)):
        return "already there"
    if not forward.ok:
        raise _conflict(patch, parsed, strip, forward, scratch / "tree", tree)
    done = _git_apply(scratch, strip)
    if not done.ok:
        raise InfraError(f"{patch.path} could be applied and then could not:\n{done.output}")
    return "applied"


def _offset(done: Completed) -> int:
    """How far, in lines, hunks were found from where the patch says."""
    return sum(abs(int(number)) for number in re.findall(r"offset (-?\d+) line", done.output))


def _conflict(
    patch: Patch, parsed: PatchSet, strip: int, done: Completed, scratch: Path, tree: KernelTree
) -> UserError:
    """The error for a patch that does not apply."""
    hint = "see whether the patch is for another kernel version, or needs another patch before it"
    failed = re.search(r"error: patch failed: (.+):(\d+)$", done.output, re.M)
    if failed:
        path, line = failed[1], int(failed[2])
        for file in parsed:
            if _stripped(file, strip) != path:
                continue
            for number, hunk in enumerate(file, start=1):
                if hunk.source_start == line:
                    expected = [str(part.value).rstrip("\n") for part in hunk.source_lines()]
                    there, at = _nearest(scratch / path, expected, line)
                    if there == expected:
                        # To git a hunk without lines after its change is one at the end of the file.
                        hint = "give the hunk unchanged lines before and after its change"
                    return UserError(
                        f"{patch.name} does not apply to {tree.description}: hunk {number} of {len(file)} in "
                        f"{path}:{line}\n  the hunk expects:\n{_block(expected)}\n"
                        f"  the tree has, at line {at}:\n{_block(there)}",
                        hint=hint,
                    )
    errors = [text.removeprefix("error: ") for text in done.output.splitlines() if text.startswith("error: ")]
    return UserError(
        f"{patch.name} does not apply to {tree.description}: {'; '.join(errors) or done.output}", hint=hint
    )


def _stripped(file: PatchedFile, strip: int) -> str:
    name = _path(file.source_file if file.source_file != "/dev/null" else file.target_file)
    return name.partition("/")[2] if strip else name


def _nearest(path: Path, expected: Sequence[str], line: int) -> tuple[list[str], int]:
    """The stretch of a file that has most lines of a hunk in place, the nearer the better; its first line."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    size = len(expected)

    def score(start: int) -> tuple[int, int]:
        same = sum(
            1 for have, want in zip(lines[start : start + size], expected, strict=False) if have == want
        )
        return same, -abs(start + 1 - line)

    start = max(range(max(1, len(lines) - size + 1)), key=score, default=0)
    return lines[start : start + size], start + 1


def _block(lines: Sequence[str]) -> str:
    shown = [f"    |{text}" for text in lines[:_SHOWN]]
    return "\n".join([*shown, "    |..."] if len(lines) > _SHOWN else shown)
