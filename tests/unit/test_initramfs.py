# SPDX-License-Identifier: GPL-2.0-only
"""The initramfs, read back by a parser of its own and by cpio."""

from __future__ import annotations

import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.errors import InfraError
from harness.guest.initramfs import (
    archive,
    character_device,
    copy,
    file,
    folder,
    symlink,
    write_initramfs,
)
from harness.guest.probe import MARK, probe_entries


@dataclass(frozen=True)
class Member:
    mode: int
    owner: tuple[int, int]
    mtime: int
    device: tuple[int, int]
    data: bytes
    inode: int


def unpack(image: bytes) -> dict[str, Member]:
    """Every member, by the field offsets of the kernel's description of the format."""
    members: dict[str, Member] = {}
    position = 0
    while True:
        assert position % 4 == 0
        assert image[position : position + 6] == b"070701"
        fields = [int(image[position + 6 + 8 * n : position + 14 + 8 * n], 16) for n in range(13)]
        inode, mode, uid, gid, _, mtime, size, _, _, major, minor, name_size, _ = fields
        start = position + 110
        name = image[start : start + name_size - 1].decode()
        assert image[start + name_size - 1] == 0
        data_at = (start + name_size + 3) // 4 * 4
        position = (data_at + size + 3) // 4 * 4
        if name == "TRAILER!!!":
            assert position == len(image)
            return members
        assert name not in members
        members[name] = Member(
            mode, (uid, gid), mtime, (major, minor), image[data_at : data_at + size], inode
        )


ENTRIES = [
    file("init", b"#!/bin/true\n", executable=True),
    file("lib/modules/a.ko", b"12345"),
    symlink("bin/sh", "busybox"),
    folder("tmp"),
    character_device("dev/null", 1, 3, 0o666),
]


def test_members() -> None:
    members = unpack(archive(ENTRIES))
    assert list(members) == [
        "init", "lib", "lib/modules", "lib/modules/a.ko", "bin", "bin/sh", "tmp",
        "dev", "dev/null", "dev/console",
    ]  # fmt: skip
    assert members["init"].mode == stat.S_IFREG | 0o755
    assert members["lib/modules/a.ko"].mode == stat.S_IFREG | 0o644
    assert members["lib/modules/a.ko"].data == b"12345"
    assert stat.S_ISLNK(members["bin/sh"].mode)
    assert members["bin/sh"].data == b"busybox"
    assert stat.S_ISDIR(members["lib"].mode)
    assert members["dev/null"].device == (1, 3)
    assert members["dev/console"].mode == stat.S_IFCHR | 0o600
    assert members["dev/console"].device == (5, 1)
    assert {(member.owner, member.mtime) for member in members.values()} == {((0, 0), 0)}
    assert len({member.inode for member in members.values()}) == len(members)


def test_the_same_entries_give_the_same_bytes() -> None:
    assert archive(ENTRIES) == archive(list(ENTRIES))


@pytest.mark.parametrize("size", range(9))
def test_padding(size: int) -> None:
    members = unpack(archive([file("x" * (size + 1), b"y" * size), file("z", b"end")]))
    assert members["x" * (size + 1)].data == b"y" * size
    assert members["z"].data == b"end"


@pytest.mark.skipif(shutil.which("cpio") is None, reason="no cpio on this machine")
def test_cpio_reads_it(tmp_path: Path) -> None:
    image = write_initramfs(tmp_path / "i.cpio", ENTRIES).read_bytes()
    listing = subprocess.run(["cpio", "-tv"], input=image, capture_output=True, check=True).stdout.decode()
    assert "crw-------   1 root     root       5,   1" in listing
    assert "bin/sh -> busybox" in listing
    assert "lib/modules/a.ko" in listing


@pytest.mark.parametrize("path", ["/init", "../x", "a/../b", "", "."])
def test_a_path_outside_the_root_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="no path below the root"):
        archive([file(path, b"")])


def test_a_path_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="comes twice"):
        archive([file("a", b"1"), file("a", b"2")])
    assert "tmp" in unpack(archive([folder("tmp"), folder("tmp"), file("tmp/x", b"")]))


def test_a_missing_file_of_the_host_is_named(tmp_path: Path) -> None:
    with pytest.raises(InfraError, match="nothing-here"):
        copy("init", tmp_path / "nothing-here")


def test_the_probe_is_a_static_elf_that_ends_in_its_line() -> None:
    image = unpack(archive(probe_entries()))["init"].data
    assert image[:5] == b"\x7fELF\x02"
    entry = int.from_bytes(image[24:32], "little")
    load_address = int.from_bytes(image[64 + 16 : 64 + 24], "little")
    assert entry - load_address == 120
    assert image.endswith(MARK)
    # The lea's displacement, relative to the instruction behind it, leads to the line.
    lea = image.index(b"\x48\x8d\x35")
    displacement = int.from_bytes(image[lea + 3 : lea + 7], "little", signed=True)
    assert image[lea + 7 + displacement :] == MARK
