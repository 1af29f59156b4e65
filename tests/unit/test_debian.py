# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from harness.cache import Cache, sha256_file
from harness.errors import InfraError, UserError
from harness.kernel.apt import PrivateApt, Source, archive_sources, mirror, read_sources
from harness.kernel.debian import fetch_debian
from harness.kernel.spec import (
    DebianSpec,
    KernelTree,
)
from tests.unit.kernelroom import Notes, write_toy
from tests.unit.sources import soon

ONE_LINE = """\
# a comment
deb http://mirror.example.org/debian trixie main contrib
deb-src http://mirror.example.org/debian trixie main
deb [arch=amd64 signed-by=/keys/a.gpg] http://sec.example.org/debian-security trixie-security main # why
"""

DEB822 = """\
Types: deb deb-src
URIs: http://mirror.example.org/debian
Suites: trixie trixie-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
 -----END PGP PUBLIC KEY BLOCK-----

# off
Enabled: no
Types: deb
URIs: http://off.example.org/debian
Suites: trixie
Components: main

Types: deb
URIs: http://vendor.example.org/apt
Suites: stable
Components: tools
"""


def test_system_sources_in_both_formats(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(ONE_LINE, encoding="utf-8")
    (tmp_path / "sources.list.d/debian.sources").write_text(DEB822, encoding="utf-8")
    (tmp_path / "sources.list.d/ignored.bak").write_text(ONE_LINE, encoding="utf-8")
    sources = read_sources(tmp_path)
    assert [(source.uris[0].split("/")[2].split(".")[0], source.suites) for source in sources] == [
        ("mirror", ("trixie",)),
        ("sec", ("trixie-security",)),
        ("mirror", ("trixie", "trixie-updates")),
        ("vendor", ("stable",)),
    ]
    assert sources[1].options == (("Signed-By", "/keys/a.gpg"),)
    assert "-----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n" in sources[2].stanza()
    assert len(archive_sources(sources, "trixie")) == 3
    found = mirror(sources[1:], "trixie")
    assert found == sources[2]
    assert mirror([Source(("http://vendor.example.org/apt",), ("stable",), ("tools",))], "trixie") is None


needs_apt = pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs apt, which only Debian has")


class Archive:
    """A Debian archive in a folder, unsigned, of packages of the toy; and an /etc/apt that names it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.etc = root / "etc"
        (self.etc / "sources.list.d").mkdir(parents=True)
        (self.etc / "sources.list.d/debian.sources").write_text(
            f"Types: deb\nURIs: file://{root}/debian\nSuites: trixie\nComponents: main\nTrusted: yes\n",
            encoding="utf-8",
        )

    def package(self, suite: str, name: str, version: str) -> None:
        """Add a package with the toy's source to a suite."""
        build = self.root / "build"
        toy = write_toy(build / "in" / name)
        makefile = (toy / "Makefile").read_text(encoding="utf-8")
        (toy / "Makefile").write_text(
            makefile.replace("SUBLEVEL = 4", f"SUBLEVEL = {version[-1]}"), encoding="utf-8"
        )
        inner = build / "deb/usr/src"
        inner.mkdir(parents=True)
        with tarfile.open(inner / f"{name}.tar.xz", "w:xz") as tar:
            tar.add(toy, name)
        control = (
            f"Package: {name}\nVersion: {version}\nArchitecture: all\n"
            "Maintainer: T <t@example.org>\nDescription: x\n"
        )
        (build / "deb/DEBIAN").mkdir()
        (build / "deb/DEBIAN/control").write_text(control, encoding="utf-8")
        pool = self.root / "debian/pool"
        pool.mkdir(parents=True, exist_ok=True)
        deb = pool / f"{name}_{version}_all.deb"
        subprocess.run(
            ["dpkg-deb", "-b", "--root-owner-group", str(build / "deb"), str(deb)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        shutil.rmtree(build)
        folder = self.root / f"debian/dists/{suite}/main/binary-amd64"
        folder.mkdir(parents=True, exist_ok=True)
        entry = (
            f"{control}Filename: pool/{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {sha256_file(deb)}\n\n"
        )
        with (folder / "Packages").open("a", encoding="utf-8") as sink:
            sink.write(entry)
        arch = subprocess.run(
            ["dpkg", "--print-architecture"], check=True, capture_output=True, text=True
        ).stdout.strip()
        packages = (folder / "Packages").read_bytes()
        release = (
            f"Suite: {suite}\nCodename: {suite}\nArchitectures: {arch}\nComponents: main\n"
            f"Date: Mon, 02 Nov 2026 10:00:00 UTC\nSHA256:\n"
            f" {hashlib.sha256(packages).hexdigest()} {len(packages)} main/binary-{arch}/Packages\n"
        )
        if arch != "amd64":
            shutil.copytree(folder, folder.parent / f"binary-{arch}", dirs_exist_ok=True)
        (self.root / f"debian/dists/{suite}/Release").write_text(release, encoding="utf-8")

    def fetch(self, spec: DebianSpec, cache: Cache, notes: Notes, fresh_s: float = 86400.0) -> KernelTree:
        return fetch_debian(spec, cache, notes, soon(), etc=self.etc, codename="trixie", fresh_s=fresh_s)


@pytest.fixture
def debian(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive")


@needs_apt
def test_newest_source_of_backports(debian: Archive, cache: Cache) -> None:
    for minor in ("2", "10", "9"):
        debian.package("trixie-backports", f"linux-source-7.{minor}", f"7.{minor}.{minor[-1]}")
    notes = Notes()
    tree = debian.fetch(DebianSpec(), cache, notes)
    assert tree.description == "Debian linux-source-7.10 7.10.0"
    assert tree.version == "7.3.0"
    assert notes.notes == []
    # A second time nothing is asked for, and the archive may be gone.
    shutil.rmtree(debian.root / "debian")
    again = Notes()
    assert debian.fetch(DebianSpec(), cache, again) == tree
    assert again.steps == []


@needs_apt
def test_old_answer_serves_while_the_archive_is_out_of_reach(debian: Archive, cache: Cache) -> None:
    debian.package("trixie-backports", "linux-source-7.3", "7.3.4")
    tree = debian.fetch(DebianSpec(), cache, Notes())
    shutil.rmtree(debian.root / "debian")
    notes = Notes()
    assert debian.fetch(DebianSpec(), cache, notes, fresh_s=0.0) == tree
    assert len(notes.notes) == 1
    assert "going on with Debian linux-source-7.3 7.3.4 from the cache" in notes.notes[0]


@needs_apt
def test_suite_that_cannot_be_had(debian: Archive, cache: Cache) -> None:
    debian.package("trixie", "linux-source-6.12", "6.12.7")
    notes = Notes()
    tree = debian.fetch(DebianSpec(), cache, notes)
    assert tree.description == "Debian linux-source-6.12 6.12.7"
    assert len(notes.notes) == 1
    assert re.match(r"trixie-backports cannot be had .*: using linux-source-6\.12 6\.12\.7", notes.notes[0])


@needs_apt
def test_package_by_name_and_suite(debian: Archive, cache: Cache) -> None:
    debian.package("trixie", "linux-source-6.12", "6.12.7")
    debian.package("trixie-backports", "linux-source-7.3", "7.3.4")
    assert debian.fetch(DebianSpec("linux-source-6.12"), cache, Notes()).version == "7.3.7"
    assert "7.3.4" in debian.fetch(DebianSpec("linux-source-7.3"), cache, Notes()).description
    assert "7.3.4" in debian.fetch(DebianSpec(suite="trixie-backports"), cache, Notes()).description
    with pytest.raises(UserError, match=r"has no linux-source-9\.9"):
        debian.fetch(DebianSpec("linux-source-9.9"), cache, Notes())
    with pytest.raises(InfraError, match="forky-backports cannot be had"):
        debian.fetch(DebianSpec(suite="forky-backports"), cache, Notes())


@needs_apt
def test_apt_without_a_place_for_its_files_is_a_fault_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InfraError, match=f"cannot write {tmp_path}/file: Not a directory"):
        PrivateApt.create(tmp_path / "file", [], soon())


@needs_apt
def test_package_that_is_not_what_the_archive_lists(debian: Archive, cache: Cache) -> None:
    debian.package("trixie-backports", "linux-source-7.3", "7.3.4")
    with next((debian.root / "debian/pool").iterdir()).open("ab") as deb:
        deb.write(b"more")
    with pytest.raises(InfraError, match="cannot be downloaded"):
        debian.fetch(DebianSpec(), cache, Notes())
    assert not (cache.root / "trees").exists()
