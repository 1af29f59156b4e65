# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cache import Cache
from harness.errors import InfraError, UserError
from harness.kernel import tree as door
from harness.kernel.folder import fetch_folder, source_files
from harness.kernel.spec import (
    DebianSpec,
    FolderSpec,
    TarballSpec,
    kernel_version,
    version_tuple,
)
from harness.kernel.tarball import fetch_tarball
from tests.unit.kernelroom import Notes, mounted, write_toy
from tests.unit.sources import archive, make_repository, serving, soon, spec_for


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "small", "1m") as path:
        yield path


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "repository")


# Versions


def test_version_of_a_tree(tmp_path: Path) -> None:
    toy = write_toy(tmp_path)
    assert kernel_version(toy) == "7.3.4"
    makefile = (toy / "Makefile").read_text(encoding="utf-8")
    (toy / "Makefile").write_text(
        makefile.replace("SUBLEVEL = 4", "SUBLEVEL = 0").replace("EXTRAVERSION =", "EXTRAVERSION = -rc2"),
        encoding="utf-8",
    )
    assert kernel_version(toy) == "7.3.0-rc2"
    assert version_tuple("7.3.0-rc2") == (7, 3, 0)
    assert version_tuple("6.12.117") > version_tuple("6.12.9")
    (toy / "Kconfig").unlink()
    with pytest.raises(UserError, match="not a kernel source tree"):
        kernel_version(toy)
    with pytest.raises(UserError, match="not a kernel version"):
        version_tuple("newest")


# Tarballs


@pytest.mark.parametrize("mode", ["w:xz", "w:gz", "w:bz2", "w"])
def test_tarball_is_fetched_once(tmp_path: Path, cache: Cache, mode: str) -> None:
    content = archive(tmp_path, mode)
    with serving(content) as server:
        spec = spec_for(server.url, content)
        tree = fetch_tarball(spec, cache, Notes(), soon())
        assert tree.version == "7.3.4"
        assert (tree.path / "mm/link.c").is_symlink()
        assert (tree.path / "mm/memory.c").read_bytes() == (tree.path / "mm/link.c").read_bytes()
        assert len(server.asked) == 1
    # The server is gone, and is not needed.
    assert fetch_tarball(spec, cache, Notes(), soon()) == tree
    assert [path.name for path in (cache.root / "trees").iterdir()] == [tree.ident]
    assert not list((cache.root / "downloads").iterdir())


def test_connection_that_breaks_is_taken_up_where_it_broke(tmp_path: Path, cache: Cache) -> None:
    content = archive(tmp_path)
    with serving(content, cut=200) as server:
        fetch_tarball(spec_for(server.url, content), cache, Notes(), soon())
        assert server.asked == ["", "bytes=200-"]


@pytest.mark.parametrize("ranges", [True, False])
def test_download_of_an_earlier_run_is_resumed(tmp_path: Path, cache: Cache, ranges: bool) -> None:
    content = archive(tmp_path)
    with serving(content, ranges=ranges) as server:
        spec = spec_for(server.url, content)
        part = cache.folder("downloads") / f"{spec.sha256[:16]}-linux-7.3.4.tar.xz.part"
        part.write_bytes(content[:300])
        fetch_tarball(spec, cache, Notes(), soon())
        assert server.asked == ["bytes=300-"]


def test_part_of_another_file_is_fetched_anew(tmp_path: Path, cache: Cache) -> None:
    content = archive(tmp_path)
    with serving(content) as server:
        spec = spec_for(server.url, content)
        part = cache.folder("downloads") / f"{spec.sha256[:16]}-linux-7.3.4.tar.xz.part"
        part.write_bytes(b"x" * (len(content) + 5))
        fetch_tarball(spec, cache, Notes(), soon())
        assert server.asked == [f"bytes={len(content) + 5}-", ""]


def test_wrong_hash_shows_both_and_keeps_nothing(tmp_path: Path, cache: Cache) -> None:
    content = archive(tmp_path)
    with serving(content) as server, pytest.raises(UserError) as caught:
        fetch_tarball(TarballSpec(server.url, "0" * 64), cache, Notes(), soon())
    assert "0" * 64 in caught.value.message
    assert hashlib.sha256(content).hexdigest() in caught.value.message
    assert not list((cache.root / "downloads").iterdir())
    assert not (cache.root / "trees").exists()


def test_servers_that_do_not_answer(cache: Cache) -> None:
    with serving(b"") as server:
        gone = server.url
    with pytest.raises(InfraError, match="cannot be reached"):
        fetch_tarball(TarballSpec(gone, "0" * 64), cache, Notes(), soon())
    with pytest.raises(InfraError, match="cannot be reached"):
        fetch_tarball(TarballSpec("file:///nowhere/linux.tar", "0" * 64), cache, Notes(), soon())


def test_full_disk_while_downloading(tmp_path: Path, small_disk: Path) -> None:
    content = archive(tmp_path, "w") + bytes(1 << 21)
    with serving(content) as server, pytest.raises(InfraError, match="No space left"):
        fetch_tarball(spec_for(server.url, content), Cache(small_disk), Notes(), soon())


def test_full_disk_while_unpacking(tmp_path: Path, small_disk: Path) -> None:
    content = archive(tmp_path, "w:xz")
    (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free - 16384))
    with serving(content) as server, pytest.raises(InfraError, match=r"[Nn]o space left"):
        fetch_tarball(spec_for(server.url, content), Cache(small_disk), Notes(), soon())
    assert not list((small_disk / "trees").iterdir())


def test_url_and_hash_are_looked_at(cache: Cache) -> None:
    with pytest.raises(UserError, match="cannot download from ftp"):
        fetch_tarball(TarballSpec("ftp://x/linux.tar", "0" * 64), cache, Notes(), soon())
    with pytest.raises(UserError, match="not a SHA-256"):
        fetch_tarball(TarballSpec("http://x/linux.tar", "abc"), cache, Notes(), soon())
    with pytest.raises(UserError, match="not a SHA-256"):
        fetch_tarball(TarballSpec("http://x/linux.tar", "A" * 64), cache, Notes(), soon())


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    return info


@pytest.mark.parametrize(
    "bad",
    [
        member("linux-7.3.4/../../escaped"),
        member("../escaped"),
        member("/escaped"),
        member("linux-7.3.4/out", tarfile.SYMTYPE, "/etc"),
        member("linux-7.3.4/out", tarfile.SYMTYPE, "../../escaped"),
        member("linux-7.3.4/out", tarfile.LNKTYPE, "../escaped"),
        member("linux-7.3.4/device", tarfile.CHRTYPE),
    ],
    ids=lambda info: f"{info.name}-{info.linkname}",
)
@pytest.mark.parametrize("mode", ["w:xz", "w"])
def test_member_that_leaves_the_folder_is_refused(
    tmp_path: Path, cache: Cache, bad: tarfile.TarInfo, mode: str
) -> None:
    content = archive(tmp_path, mode, extra=(bad,))
    file = tmp_path / "linux.tar.xz"
    file.write_bytes(content)
    with pytest.raises(UserError, match="is refused: member") as caught:
        fetch_tarball(spec_for(file.as_uri(), content), cache, Notes(), soon())
    assert repr(bad.name) in caught.value.message
    # A discarded draft is deleted in the background: walk() does not mind what vanishes.
    assert not any("escaped" in files for _, _, files in os.walk(tmp_path))
    assert not Path("/escaped").exists()
    assert not list((cache.root / "trees").iterdir())


@pytest.mark.parametrize("content", [b"no archive at all", b"\xfd7zXZ\0damaged"])
def test_file_that_is_no_archive(tmp_path: Path, cache: Cache, content: bytes) -> None:
    file = tmp_path / "linux.tar"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"linux\.tar"):
        fetch_tarball(spec_for(file.as_uri(), content), cache, Notes(), soon())


def test_archive_without_a_kernel(tmp_path: Path, cache: Cache) -> None:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as tar:
        tar.addfile(member("hello/README"))
    file = tmp_path / "hello.tar"
    file.write_bytes(held.getvalue())
    with pytest.raises(UserError, match="no kernel source"):
        fetch_tarball(spec_for(file.as_uri(), held.getvalue()), cache, Notes(), soon())


# Folders


def test_folder_identity_follows_its_files(tmp_path: Path) -> None:
    folder = write_toy(tmp_path / "linux")
    first = fetch_folder(FolderSpec(folder), Notes())
    assert fetch_folder(FolderSpec(folder), Notes()) == first
    (folder / "mm/new.c").touch()
    second = fetch_folder(FolderSpec(folder), Notes())
    assert second.ident != first.ident
    assert second.origin == first.origin
    assert not second.immutable


def test_folder_that_was_built_in_place(tmp_path: Path, repository: Path) -> None:
    folder = write_toy(tmp_path / "linux")
    (folder / ".config").touch()
    with pytest.raises(UserError, match="built in place") as caught:
        fetch_folder(FolderSpec(folder), Notes())
    assert "mrproper" in caught.value.hint
    # A git checkout knows what is source.
    (repository / ".gitignore").write_text(".config\n*.o\n", encoding="utf-8")
    (repository / ".config").touch()
    (repository / "mm/memory.o").touch()
    (repository / "mm/untracked.c").touch()
    assert source_files(repository) == [
        ".gitignore", "Kconfig", "Makefile", "mm/hmm.c", "mm/memory.c", "mm/untracked.c",
    ]  # fmt: skip


# The door


def test_host_that_is_not_debian(tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "is_debian", lambda: False)
    content = archive(tmp_path)
    file = tmp_path / "linux-7.3.4.tar.xz"
    file.write_bytes(content)
    notes = Notes()
    fallback = spec_for(file.as_uri(), content)
    tree = door.fetch_tree(DebianSpec(), cache, notes, soon(), fallback=fallback)
    assert tree.description == "tarball linux-7.3.4.tar.xz"
    assert notes.notes == [f"this host is not Debian: using tarball {file.as_uri()}"]
    with pytest.raises(UserError, match="can only be had on Debian"):
        door.fetch_tree(DebianSpec(), cache, notes, soon())
