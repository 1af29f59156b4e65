# SPDX-License-Identifier: GPL-2.0-only
"""What a trial needs, onto the box: kernel, its modules, and the files of the plan's initramfs."""

from __future__ import annotations

import base64
import stat
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from harness.cache import sha256_file
from harness.deadline import Deadline
from harness.diagnose.elf import build_id_in
from harness.errors import InfraError, UserError
from harness.guest.initramfs import regular_files
from harness.kernel.make import toolchain
from harness.process import run
from harness.target.box.machine import Box
from harness.target.box.ssh import Transfer
from harness.target.protocol import BootPlan

#: Where kernels look for them, each in a folder by its release.
MODULES = "/lib/modules"
#: In such a folder: it was made here, from an archive of this digest.
_MARK = ".hmm-harness"
#: All of it, over a slow line, s.
INSTALL_S = 600.0


def kernel_path(box: Box) -> str:
    """Where the kernel lies on the box."""
    return f"{box.config.folder}/vmlinuz"


def agent_folder(box: Box) -> str:
    """Where the initramfs's files lie on the box."""
    return f"{box.config.folder}/agent"


def install(box: Box, plan: BootPlan, *, kernel: bool) -> str:
    """Copy what is not there yet, each file verified by its hash; says what that was. InfraError if it fails,
    UserError if the kernel's modules would take the place of another one's.

    `kernel`: with the kernel and its modules; the module and the programs always.
    """
    deadline = Deadline.after(INSTALL_S)
    shell = box.shell()
    with tempfile.TemporaryDirectory(prefix="hmm-box-") as name:
        draft = Path(name)
        archive = f"{box.config.folder}/modules.tar"
        files: list[Transfer] = []
        modules: Path | None = None
        if kernel:
            files.append(Transfer(plan.kernel, kernel_path(box)))
            modules = _archived(plan.kernel.parent / "modules", draft / "modules.tar")
        if modules:
            files.append(Transfer(modules, archive))
        for number, entry in enumerate(regular_files(plan.initramfs.read_bytes())):
            source = draft / str(number)
            source.write_bytes(entry.data)
            mode = f"{stat.S_IMODE(entry.mode):04o}"
            files.append(Transfer(source, f"{agent_folder(box)}/{entry.path}", mode))
        sent = shell.put(files, deadline)
        if modules:
            for release in (plan.kernel.parent / "modules" / "lib" / "modules").iterdir():
                _unpack(box, archive, release.name, sha256_file(modules), deadline)
        shell.run(["sync"], deadline)
    return f"copied {', '.join(sent)}" if sent else "all there already"


def _unpack(box: Box, archive: str, release: str, digest: str, deadline: Deadline) -> None:
    """The modules of a release from an archive of this digest, to where the kernel looks for them.

    UserError if those of another kernel are there: it may be what the box boots by default.
    """
    shell = box.shell()
    place = f"{MODULES}/{release}"
    mark = f"{place}/{_MARK}"
    there = shell.run(["cat", mark], deadline, check=False)
    if not there.ok and shell.run(["test", "-e", place], deadline, check=False).ok:
        raise UserError(
            f"box {box.name} has the modules of another kernel in {place}",
            hint=f'a name of its own for the kernel: `config: [LOCALVERSION="-hmm"]`, or remove {place}',
        )
    if there.out != digest:
        shell.run(["mkdir", "-p", place], deadline)
        shell.write(b"", mark, deadline)
        shell.run(["tar", "-C", str(PurePosixPath(MODULES).parents[1]), "-xf", archive], deadline)
        shell.run(["depmod", release], deadline)  # where kernels are built there may be none
        shell.write(digest.encode(), mark, deadline)  # the last thing: whoever is killed before begins anew


def _archived(root: Path, target: Path) -> Path | None:
    """The modules below `root` as an archive that is always the same; None if there are none."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    if not any(path.name.endswith((".ko", ".ko.xz", ".ko.zst", ".ko.gz")) for path in files):
        return None
    with tarfile.open(target, "w") as archive:
        for path in files:
            name = str(path.relative_to(root))
            if path.suffix == ".ko":
                path = _without_debug_info(path, target.with_suffix(".ko"))
            member = archive.gettarinfo(path, name)
            member.uid = member.gid = 0
            member.uname = member.gname = "root"
            member.mtime = 0
            with path.open("rb") as data:
                archive.addfile(member, data)
    return target


def _without_debug_info(module: Path, copy: Path) -> Path:
    """What a kernel loads of a module: a driver's debug info is most of its file."""
    strip = [toolchain().program("strip"), "--strip-debug", "-o", str(copy), str(module)]
    run(strip, deadline=Deadline.after(60.0))
    return copy


def check_build(box: Box, wanted: str) -> str:
    """What the running kernel's build ID says. InfraError if it is not the wanted one; empty: any is."""
    said = box.shell().run(["base64", "-w0", "/sys/kernel/notes"], Deadline.after(30.0))
    running = build_id_in(base64.b64decode(said.out))
    if wanted and running != wanted:
        raise InfraError(
            f"box {box.name} runs a kernel with the build ID {running or '(none)'}, not {wanted}",
            hint="another kernel was started, or `boot: {method: none}` and the box has another one",
        )
    return f"build ID {running}"
