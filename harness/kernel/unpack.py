# SPDX-License-Identifier: GPL-2.0-only
"""Tar archives of kernel source, unpacked without letting a member leave the folder."""

from __future__ import annotations

import os
import posixpath
import tarfile
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import InfraError, UserError
from harness.process import Completed, run

#: First bytes of a file -> the program that decompresses it.
_MAGIC: tuple[tuple[bytes, tuple[str, ...]], ...] = (
    (b"\xfd7zXZ\0", ("xz", "-T0")),
    (b"\x1f\x8b", ("gzip",)),
    (b"BZh", ("bzip2",)),
    (b"\x28\xb5\x2f\xfd", ("zstd",)),
)


def decompressor(archive: Path) -> tuple[str, ...]:
    """The command that decompresses an archive by its first bytes; empty for a plain tar."""
    with archive.open("rb") as source:
        head = source.read(8)
    return next((command for magic, command in _MAGIC if head.startswith(magic)), ())


def unpack(archive: Path, target: Path, deadline: Deadline) -> None:
    """Unpack a tar archive into `target`, which exists. For archives whose origin is verified.

    GNU tar itself neither writes above the target nor through a link that leads out of it.
    """
    command = decompressor(archive)
    how = [f"--use-compress-program={' '.join(command)}"] if command else []
    _disk_check(
        run(
            ["tar", "-x", "--no-same-owner", *how, "-f", str(archive), "-C", str(target)],
            deadline=deadline,
            env={"LC_ALL": "C"},
            check=False,
        ),
        archive,
        target,
    )


def unpack_checked(archive: Path, target: Path, deadline: Deadline) -> None:
    """Unpack an archive from anywhere: every member is looked at before the first is written.

    UserError names the member that would leave the folder, or says that this is no tar archive.
    """
    plain = archive
    command = decompressor(archive)
    scratch = target.parent / f".{target.name}.tar"
    try:
        if command:
            with scratch.open("wb"):
                pass
            _decompress(command, archive, scratch, deadline)
            plain = scratch
        check_members(plain, archive)
        unpack(plain, target, deadline)
    finally:
        scratch.unlink(missing_ok=True)


def _decompress(command: tuple[str, ...], archive: Path, plain: Path, deadline: Deadline) -> None:
    # The decompressors write next to a file they are given by name; a link gives that file the name we want.
    link = plain.with_name(plain.name + _SUFFIX[command[0]])
    link.unlink(missing_ok=True)
    os.symlink(archive.absolute(), link)
    try:
        done = run(
            [*command, "-d", "-k", "-f", str(link)], deadline=deadline, env={"LC_ALL": "C"}, check=False
        )
        _disk_check(done, archive, plain.parent)
    finally:
        link.unlink(missing_ok=True)


_SUFFIX = {"xz": ".xz", "gzip": ".gz", "bzip2": ".bz2", "zstd": ".zst"}


def check_members(plain: Path, shown: Path) -> None:
    """UserError if a member of an uncompressed tar would be written, or would point, outside the folder."""
    try:
        with tarfile.open(plain, "r:") as archive:
            for member in archive:
                reason = _escapes(member)
                if reason:
                    raise UserError(
                        f"{shown.name} is refused: member {member.name!r} {reason}",
                        hint="take the archive from the place that publishes the kernel",
                    )
    except tarfile.TarError as error:
        raise UserError(f"{shown.name} is not a tar archive: {error}") from error


def _escapes(member: tarfile.TarInfo) -> str:
    """Why a member is refused; empty if it is not."""
    if _leaves(member.name):
        return "would be written outside the folder"
    if member.issym():
        # Kernel trees have relative links that go up and come down again inside the tree.
        if member.linkname.startswith("/") or _leaves(
            posixpath.join(posixpath.dirname(member.name), member.linkname)
        ):
            return f"is a link out of the folder, to {member.linkname!r}"
    elif member.islnk():
        if _leaves(member.linkname):
            return f"is a hard link out of the folder, to {member.linkname!r}"
    elif not (member.isreg() or member.isdir()):
        return "is neither file, folder nor link"
    return ""


def _leaves(name: str) -> bool:
    if name.startswith("/"):
        return True
    if ".." not in name:
        return False
    clean = posixpath.normpath(name)
    return clean == ".." or clean.startswith("../")


def _disk_check(done: Completed, archive: Path, target: Path) -> None:
    if done.ok:
        return
    if "No space left" in done.output:
        raise InfraError(
            f"no space left to unpack {archive.name} below {target}", hint="free some space there"
        )
    tail = "\n".join(done.output.strip().splitlines()[-6:])
    raise UserError(
        f"{archive.name} cannot be unpacked:\n{tail}", hint="is the file complete, and a tar archive?"
    )


def source_top(folder: Path) -> Path:
    """The folder with the top Makefile: `folder`, or the only folder in it. UserError if there is none."""
    inside = [entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink()]
    candidates = [folder, *(inside if len(inside) == 1 else [])]
    for candidate in candidates:
        if (candidate / "Makefile").is_file() and (candidate / "Kconfig").is_file():
            return candidate
    raise UserError("the archive holds no kernel source", hint="a top Makefile and a Kconfig are looked for")
