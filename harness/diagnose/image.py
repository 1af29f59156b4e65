# SPDX-License-Identifier: GPL-2.0-only
"""A kernel's memory with its symbols: of a frozen guest through QMP, or of a dump."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import drgn
import zstandard

from harness.diagnose.elf import ElfFile, core_length, read_elf
from harness.disk import disk_errors
from harness.errors import InfraError, UserError
from harness.target.protocol import Registers

#: A monitor that is free answers in milliseconds; one that serves another client never does.
_ANSWER_S = 5
_CHUNK = 1 << 20
_PAGE = 4096
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

#: The headers of QEMU's kdump formats lack the names by which libkdumpfile knows the architecture.
_CORE_HINT = "give an ELF core, or a file of makedumpfile (of QEMU's formats only `elf` serves)"

#: What drgn raises for memory it cannot read, symbols it does not have, and DWARF it does not understand. For
#: a damaged length it attempts an allocation that fails.
UNREADABLE = (
    drgn.FaultError,
    drgn.BadDataError,
    drgn.ObjectAbsentError,
    drgn.OutOfBoundsError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
)

#: The library says on its log what is checked, and said better, here.
logging.getLogger("drgn").addHandler(logging.NullHandler())
logging.getLogger("drgn").propagate = False


@dataclass(frozen=True)
class SymbolFiles:
    """The vmlinux with DWARF of the kernel that ran, and modules with theirs (`*.ko.debug`)."""

    vmlinux: Path
    modules: tuple[Path, ...] = ()


@dataclass(frozen=True)
class MemoryImage:
    """`registers`: of each CPU by QEMU's names where the image does not hold them, or None.

    `gaps`: what is missing from the start, as modules without symbols.
    """

    prog: drgn.Program
    registers: Registers | None
    gaps: tuple[str, ...] = ()


@contextlib.contextmanager
def open_live(address: str, registers: Registers, symbols: SymbolFiles) -> Iterator[MemoryImage]:
    """The memory of a paused guest, by the path of a QMP socket that nobody else uses.

    Leaving the block frees the socket. UserError for symbols that cannot be used at all, InfraError if QEMU
    does not answer, or if no kernel can be found in the memory: it has not got far, or has been overwritten.
    """
    prog = drgn.Program()
    files = _check_symbols(symbols)
    with contextlib.closing(_connect(address)) as connection:
        try:
            # The library owns the descriptor it gets. This one ends the session whoever still has the other.
            prog.set_qemu_qmp(os.dup(connection.fileno()))
        except (OSError, ValueError, drgn.FaultError) as error:
            raise InfraError(
                f"QEMU's monitor at {address} does not hand out the guest's memory: {error}",
                hint="it takes one client at a time",
            ) from error
        try:
            try:
                gaps = _load(prog, symbols, files, "the guest")
            except UserError as error:
                raise InfraError(error.message) from error
            yield MemoryImage(prog, registers, gaps)
        finally:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def open_vmcore(path: Path, symbols: SymbolFiles) -> Iterator[MemoryImage]:
    """A dump: an ELF core (QEMU, kdump), makedumpfile's format, or either compressed by zstd (`.zst`).

    UserError for a file that is no such dump, is cut off, or belongs to another kernel than the symbols.
    """
    files = _check_symbols(symbols)
    with _plain(path) as source:
        _check_length(path, source)
        prog = drgn.Program()
        try:
            prog.set_core_dump(os.dup(source.fileno()))
        except Exception as error:  # what libkdumpfile says is a plain one
            raise UserError(f"{path} is no dump that can be read: {error}", hint=_CORE_HINT) from error
        if not prog.flags & drgn.ProgramFlags.IS_LINUX_KERNEL:
            raise UserError(
                f"{path} is no dump of a Linux kernel: it has no VMCOREINFO note",
                hint="QEMU writes one with `-device vmcoreinfo` and CONFIG_FW_CFG_SYSFS in the guest",
            )
        gaps = _load(prog, symbols, files, str(path))
        _check_readable(path, prog)
        yield MemoryImage(prog, None, gaps)


def _connect(address: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    limit = struct.pack("ll", _ANSWER_S, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    try:
        connection.connect(address)
    except OSError as error:
        connection.close()
        raise InfraError(f"no QEMU listens at {address}: {error.strerror}") from error
    return connection


def _check_symbols(symbols: SymbolFiles) -> ElfFile:
    vmlinux = read_elf(symbols.vmlinux)
    if not vmlinux.dwarf:
        raise UserError(
            f"{symbols.vmlinux} has no debugging symbols",
            hint="give the unstripped vmlinux of a build with CONFIG_DEBUG_INFO_DWARF5 or _DWARF4",
        )
    for module in symbols.modules:
        read_elf(module)
    return vmlinux


def _load(prog: drgn.Program, symbols: SymbolFiles, vmlinux: ElfFile, what: str) -> tuple[str, ...]:
    """Attach the symbols; what could not be attached and is no error."""
    try:
        prog.load_debug_info([symbols.vmlinux, *symbols.modules], default=False)
        modules = list(prog.modules())
    except (drgn.MissingDebugInfoError, *UNREADABLE, OSError) as error:
        raise UserError(
            f"the symbols of {symbols.vmlinux} cannot be used: {str(error) or type(error).__name__}",
            hint="give the vmlinux of the kernel that ran, whole",
        ) from error
    kernel = next((module for module in modules if isinstance(module, drgn.MainModule)), None)
    ran = kernel.build_id.hex() if kernel and kernel.build_id else ""
    if ran and ran != vmlinux.build_id:
        raise UserError(
            f"{symbols.vmlinux} is not the kernel of {what}: its build ID is "
            f"{vmlinux.build_id or 'missing'}, the kernel that ran has {ran}",
            hint="give the vmlinux of the very build that ran",
        )
    if kernel is None or kernel.wants_debug_file():
        raise UserError(
            f"the symbols of {symbols.vmlinux} do not fit {what}",
            hint="give the vmlinux of the very build that ran",
        )
    others = [module for module in modules if module is not kernel]
    gaps = [f"no symbols for module {module.name}" for module in others if module.wants_debug_file()]
    used = {module.debug_file_path for module in modules}
    gaps += [f"{path} fits no module that is loaded" for path in symbols.modules if str(path) not in used]
    return tuple(gaps)


@contextlib.contextmanager
def _plain(path: Path) -> Iterator[BinaryIO]:
    """The dump, without compression."""
    with contextlib.ExitStack() as stack:
        try:
            source: BinaryIO = stack.enter_context(path.open("rb"))
            packed = source.read(4) == _ZSTD_MAGIC
            source.seek(0)
        except OSError as error:
            raise UserError(
                f"cannot read {path}: {error.strerror}", hint="give a dump that is there"
            ) from error
        yield stack.enter_context(_unpacked(path, source)) if packed else source


@contextlib.contextmanager
def _unpacked(path: Path, source: BinaryIO) -> Iterator[BinaryIO]:
    """An unnamed file with the content; pages of zeros take no room in it."""
    with disk_errors(Path(tempfile.gettempdir())), tempfile.TemporaryFile() as plain:
        try:
            with zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True) as reader:
                while chunk := reader.read(_CHUNK):
                    _write_sparse(plain, chunk)
        except zstandard.ZstdError as error:
            raise UserError(f"{path} is damaged: {error}", hint="copy it again") from error
        plain.truncate(plain.tell())
        plain.flush()
        yield plain


def _write_sparse(sink: BinaryIO, chunk: bytes) -> None:
    nothing = bytes(_PAGE)
    for at in range(0, len(chunk), _PAGE):
        page = chunk[at : at + _PAGE]
        if page == nothing[: len(page)]:
            sink.seek(len(page), os.SEEK_CUR)
        else:
            sink.write(page)


def _check_length(path: Path, source: BinaryIO) -> None:
    size = source.seek(0, os.SEEK_END)
    try:
        wanted = core_length(source)
    except (struct.error, ValueError) as error:
        raise UserError(f"{path} is no dump that can be read: {error}", hint="see `file`") from error
    source.seek(0)
    if wanted is not None and size < wanted:
        raise UserError(f"{path} is cut off: {size} of {wanted} bytes are there", hint="copy it again")


def _check_readable(path: Path, prog: drgn.Program) -> None:
    try:
        prog["init_task"].comm.string_()
        prog["jiffies"].read_()
    except UNREADABLE as error:
        raise UserError(
            f"{path} does not hold the kernel's own data: {error}", hint="it is cut off, damaged, or filtered"
        ) from error
