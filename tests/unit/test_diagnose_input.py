# SPDX-License-Identifier: GPL-2.0-only
"""`hmm-harness diagnose` and bad input: what, where, what to do; never a traceback."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest
import zstandard

from harness.cli import main
from harness.diagnose.elf import read_elf
from harness.diagnose.image import SymbolFiles, open_live
from harness.errors import InfraError


@pytest.fixture(scope="module")
def vmlinux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ELF file with DWARF and a build ID, as a vmlinux has them."""
    return compiled(tmp_path_factory.mktemp("elf"), "-g")


def compiled(folder: Path, *options: str) -> Path:
    source = folder / "start.c"
    source.write_text("void start(void) { for (;;); }\n")
    path = folder / "vmlinux"
    argv = [
        "gcc",
        "-nostdlib",
        "-static",
        "-Wl,-e,start",
        "-Wl,--build-id",
        *options,
        "-o",
        str(path),
        str(source),
    ]
    subprocess.run(argv, check=True)
    return path


def core(size: int = 4096, claims: int = 4096) -> bytes:
    """An ELF core with one segment of `claims` bytes, of which `size` are there."""
    header = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 4, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 6, 120, 0x1000, 0x1000, claims, claims, 0)
    return header + segment + bytes(size)


def refused(capsys: pytest.CaptureFixture[str], vmcore: Path, vmlinux: Path, *words: str) -> str:
    assert main(["diagnose", str(vmcore), "--vmlinux", str(vmlinux), *words]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "Traceback" not in said.err and "hint: " in said.err
    return said.err


def test_build_id_and_dwarf_of_an_elf_file(vmlinux: Path, tmp_path: Path) -> None:
    found = read_elf(vmlinux)
    notes = subprocess.run(["readelf", "-n", vmlinux], check=True, capture_output=True, text=True).stdout
    assert found.dwarf and len(found.build_id) == 40 and found.build_id in notes
    assert not read_elf(compiled(tmp_path)).dwarf


def test_files_that_are_not_there(capsys: pytest.CaptureFixture[str], vmlinux: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert f"cannot read {nowhere}: No such file" in refused(capsys, nowhere, vmlinux)
    assert f"cannot read {nowhere}: No such file" in refused(capsys, vmlinux, nowhere)
    assert f"cannot read {nowhere}" in refused(capsys, vmlinux, vmlinux, "--module", str(nowhere))
    assert f"cannot read {tmp_path}: Is a directory" in refused(capsys, tmp_path, vmlinux)


def test_a_vmlinux_without_symbols(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    stripped = compiled(tmp_path)
    assert f"{stripped} has no debugging symbols" in refused(capsys, stripped, stripped)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is no dump that can be read"),
        (b"no core at all" * 100, "is no dump that can be read"),
        (core()[:30], "is no dump that can be read"),
        (core()[:100], "is no dump that can be read"),
        (core(size=100), "is cut off: 220 of 4216 bytes are there"),
        (core(), "is no dump of a Linux kernel"),
        (b"makedumpfile" + bytes(8000), "is no dump that can be read"),
        (b"KDUMP   " + bytes(8000), "is no dump that can be read"),
        (zstandard.compress(core(size=100)), "is cut off: 220 of 4216 bytes are there"),
        (zstandard.compress(core())[:-10], "core.zst"),
        (zstandard.compress(core())[:8] + bytes(100), "is damaged"),
    ],
)
def test_what_is_no_dump(
    capsys: pytest.CaptureFixture[str], vmlinux: Path, tmp_path: Path, content: bytes, says: str
) -> None:
    path = tmp_path / "core.zst"
    path.write_bytes(content)
    assert says in refused(capsys, path, vmlinux)


def test_a_vmlinux_that_is_cut_off(capsys: pytest.CaptureFixture[str], vmlinux: Path, tmp_path: Path) -> None:
    path = tmp_path / "half"
    path.write_bytes(vmlinux.read_bytes()[:-500])
    assert f"{path} is no ELF file, or a damaged one" in refused(capsys, vmlinux, path)


def test_a_monitor_that_is_not_there_is_a_fault_of_the_machine(vmlinux: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(InfraError, match="no QEMU listens"),
        open_live(str(tmp_path / "qmp"), {}, SymbolFiles(vmlinux)),
    ):
        pass
