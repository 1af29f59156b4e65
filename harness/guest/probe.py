# SPDX-License-Identifier: GPL-2.0-only
"""The smallest init there is: says one line on the console and restarts. Shows that user mode runs."""

from __future__ import annotations

import struct

from harness.guest.initramfs import Entry, file

#: What the probe says.
MARK = b"hmm-harness: user mode runs\n"

_BASE = 0x400000
_HEADERS = 64 + 56  # one ELF header, one program header


def probe_entries() -> list[Entry]:
    """The probe as an initramfs, x86-64."""
    return [file("init", _elf(), executable=True)]


def _elf() -> bytes:
    code = b"".join(
        (
            b"\xbf\x01\x00\x00\x00",  # mov edi, 1: standard output, which is /dev/console
            b"\x48\x8d\x35", struct.pack("<i", 36),  # lea rsi, [rip + 36]: MARK, behind the code
            b"\xba", struct.pack("<I", len(MARK)),  # mov edx, length
            b"\xb8\x01\x00\x00\x00",  # mov eax, 1: write
            b"\x0f\x05",  # syscall
            b"\xbf\xad\xde\xe1\xfe",  # mov edi, LINUX_REBOOT_MAGIC1
            b"\xbe\x69\x19\x12\x28",  # mov esi, LINUX_REBOOT_MAGIC2
            b"\xba\x67\x45\x23\x01",  # mov edx, LINUX_REBOOT_CMD_RESTART
            b"\xb8\xa9\x00\x00\x00",  # mov eax, 169: reboot
            b"\x0f\x05",  # syscall
            b"\xeb\xfe",  # jmp to itself
        )
    )  # fmt: skip
    image = code + MARK
    size = _HEADERS + len(image)
    identity = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    # type EXEC, machine x86-64, version, entry, phoff, shoff, flags, ehsize, phentsize, phnum, sh*
    header = identity + struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    # type LOAD, flags r-x, offset, vaddr, paddr, filesz, memsz, align
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return header + segment + image
