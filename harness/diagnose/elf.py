# SPDX-License-Identifier: GPL-2.0-only
"""What an ELF file says about itself before a debugger opens it: its build ID, its symbols, its length.

Layouts: elf(5). Only 64-bit little-endian files, as all kernels here are.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from harness.errors import UserError

MAGIC = b"\x7fELF"
_CLASS64_LITTLE = bytes((2, 1))
_SHT_NOTE = 7
_SHT_NOBITS = 8
_NT_GNU_BUILD_ID = 3
#: More section headers than any kernel has.
_SECTION_LIMIT = 1 << 20


@dataclass(frozen=True)
class ElfFile:
    """`build_id`: in hexadecimal, empty without one. `dwarf`: it has debugging symbols of its own."""

    build_id: str
    dwarf: bool


def read_elf(path: Path) -> ElfFile:
    """Build ID and debugging symbols of an ELF file. UserError if it is none, or damaged."""
    try:
        with path.open("rb") as source:
            return _read(source)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", hint="give a file that is there") from error
    except (struct.error, ValueError, OverflowError) as error:
        raise UserError(f"{path} is no ELF file, or a damaged one: {error}", hint="see `file`") from error


def core_length(source: BinaryIO) -> int | None:
    """How many bytes an ELF core must have, by its program headers; None if it is no ELF file.

    ValueError or struct.error if even the headers are cut off.
    """
    source.seek(0)
    header = source.read(64)
    if header[:4] != MAGIC:
        return None
    _check_class(header)
    (phoff,) = struct.unpack_from("<Q", header, 32)
    phentsize, phnum = struct.unpack_from("<HH", header, 54)
    if phnum == 0xFFFF:  # PN_XNUM: the number is in the first section header
        (shoff,) = struct.unpack_from("<Q", header, 40)
        source.seek(shoff)
        (phnum,) = struct.unpack_from("<I", source.read(64), 44)
    length = phoff + phentsize * phnum
    source.seek(phoff)
    for _ in range(phnum):
        entry = source.read(phentsize)
        (offset,) = struct.unpack_from("<Q", entry, 8)
        (filesz,) = struct.unpack_from("<Q", entry, 32)
        length = max(length, offset + filesz)
    return int(length)


def _check_class(header: bytes) -> None:
    if header[4:6] != _CLASS64_LITTLE:
        raise ValueError("not 64-bit little-endian")


def _read(source: BinaryIO) -> ElfFile:
    header = source.read(64)
    if header[:4] != MAGIC:
        raise ValueError("it does not begin like one")
    _check_class(header)
    (shoff,) = struct.unpack_from("<Q", header, 40)
    shentsize, shnum, shstrndx = struct.unpack_from("<HHH", header, 58)
    sections = [_section(source, shoff + i * shentsize) for i in range(min(shnum, _SECTION_LIMIT))]
    if shstrndx >= len(sections):
        return ElfFile("", False)
    _, _, names_offset, names_size = sections[shstrndx]
    source.seek(names_offset)
    names = source.read(names_size)
    build_id = ""
    dwarf = False
    for name_at, kind, offset, size in sections:
        name = names[name_at:].split(b"\0", 1)[0]
        if kind == _SHT_NOTE and not build_id:
            source.seek(offset)
            build_id = build_id_in(source.read(size))
        if name in (b".debug_info", b".zdebug_info") and kind != _SHT_NOBITS and size:
            dwarf = True
    return ElfFile(build_id, dwarf)


def _section(source: BinaryIO, offset: int) -> tuple[int, int, int, int]:
    source.seek(offset)
    data = source.read(64)
    name, kind = struct.unpack_from("<II", data)
    start, size = struct.unpack_from("<QQ", data, 24)
    return name, kind, start, size


def build_id_in(notes: bytes) -> str:
    """The GNU build ID among ELF notes, in hexadecimal; empty without one."""
    at = 0
    while at + 12 <= len(notes):
        namesz, descsz, kind = struct.unpack_from("<III", notes, at)
        name = at + 12
        desc = name + (namesz + 3) // 4 * 4
        if kind == _NT_GNU_BUILD_ID and notes[name : name + namesz] == b"GNU\0":
            return notes[desc : desc + descsz].hex()
        at = desc + (descsz + 3) // 4 * 4
    return ""
