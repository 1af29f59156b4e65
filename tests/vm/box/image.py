# SPDX-License-Identifier: GPL-2.0-only
"""The disk of the test box: Debian of the host's own suite with GRUB, made once and kept in the cache.

No root, no loop device and no mount: mmdebstrap makes the tree, fakeroot keeps its owners, mke2fs fills a
file system with it, and GRUB's two boot images are put where its own installer would put them.
"""

from __future__ import annotations

import platform
import struct
from pathlib import Path

from harness.cache import Cache, digest, sha256_file
from harness.deadline import Deadline
from harness.errors import InfraError
from harness.kernel.apt import PrivateApt, archive_sources, read_sources
from harness.process import run
from harness.progress import Progress

HERE = Path(__file__).resolve().parent
#: What the box has beyond Debian's essential packages. tiny-initramfs: all that a kernel package insists on.
PACKAGES = (
    "grub2-common",
    "iproute2",
    "iputils-ping",
    "kexec-tools",
    "linux-image-cloud-amd64",
    "openssh-server",
    "pciutils",
    "sudo",
    "systemd-sysv",
    "tiny-initramfs",
)
#: Where the only partition begins, in bytes; GRUB's core image lies before it.
PARTITION_AT = 1 << 20
DISK_MB = 1536
SECTOR = 512
GRUB_MODULES = Path("/usr/lib/grub/i386-pc")
#: Read with the core image, in one go; whatever else a configuration asks for comes from /boot/grub.
CORE_MODULES = ("biosdisk", "part_msdos", "ext2", "normal", "loadenv", "test", "serial", "terminal", "linux")
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")


def box_disk(cache: Cache, progress: Progress, deadline: Deadline, *, suite: str = "") -> Path:
    """The raw disk image of a box of this Debian suite (the host's, unless named), never to be written to.

    It has no host key and lets nobody in. Raises InfraError if a tool is missing or the archive out of reach.
    """
    if not suite:
        suite = platform.freedesktop_os_release().get("VERSION_CODENAME", "sid")
    made_by = [Path(__file__), HERE / "customize.sh", *sorted(HERE.glob("rootfs/**/*"))]
    recipe = [f"{path.relative_to(HERE)} {sha256_file(path)}" for path in made_by if path.is_file()]
    key = digest([suite, *recipe])
    kept = cache.folder("tests", "box") / key[:32]
    disk = kept / "disk.raw"
    if disk.exists():
        return disk
    with cache.lock("box", deadline, progress.note):
        if not disk.exists():
            with progress.step(f"making a box of Debian {suite}"), cache.making(kept) as draft:
                _make(draft, suite, deadline)
    return disk


def _make(folder: Path, suite: str, deadline: Deadline) -> None:
    tree, tar, owners = folder / "tree", folder / "tree.tar", folder / "owners"
    _debian(folder / "apt", suite, tar, deadline)
    tree.mkdir()
    # Device nodes and owners exist for fakeroot alone, whoever runs this.
    run(["fakeroot", "-s", str(owners), "--", "tar", "-xf", str(tar), "-C", str(tree)], deadline=deadline)
    disk = folder / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(DISK_MB << 20)
    run(
        [
            *("fakeroot", "-i", str(owners), "--"),
            *("/usr/sbin/mke2fs", "-q", "-F", "-t", "ext4"),
            # What GRUB 2.06 cannot read.
            *("-O", "^metadata_csum_seed,^orphan_file"),
            *("-E", f"offset={PARTITION_AT},lazy_itable_init=0,lazy_journal_init=0"),
            *("-d", str(tree)),
            *(str(disk), f"{DISK_MB - (PARTITION_AT >> 20)}M"),
        ],
        deadline=deadline,
    )
    _make_bootable(disk, folder / "core.img", deadline)
    run(["rm", "-rf", *(str(path) for path in folder.iterdir() if path != disk)], deadline=deadline)


def _debian(apt: Path, suite: str, tar: Path, deadline: Deadline) -> None:
    """Debian, customized, as a tar file; from where the host itself gets its packages."""
    sources = archive_sources(read_sources(Path("/etc/apt")), suite)
    if not sources:
        raise InfraError(f"/etc/apt names no source of Debian {suite}", hint="a box is made from there")
    PrivateApt.create(apt, sources, deadline)
    acquire = [line for line in (apt / "apt.conf").read_text().splitlines() if line.startswith("Acquire::")]
    (apt / "acquire.conf").write_text("\n".join(acquire) + "\n")
    run(
        [
            "mmdebstrap",
            *("--variant=minbase", "--format=tar", f"--include={','.join(PACKAGES)}"),
            *("--aptopt=APT::Install-Recommends false", f"--aptopt={apt / 'acquire.conf'}"),
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT),
            f"--customize-hook={HERE / 'customize.sh'}",
            *(suite, str(tar), str(apt / "sources.list.d" / "harness.sources")),
        ],
        deadline=deadline,
        log=tar.with_suffix(".log"),
    )


def _make_bootable(disk: Path, core: Path, deadline: Deadline) -> None:
    """Boot sector, core image behind it, and a partition table of one entry."""
    argv = ["grub-mkimage", "-O", "i386-pc", "-p", "(hd0,msdos1)/boot/grub", "-o", str(core), *CORE_MODULES]
    run(argv, deadline=deadline)
    if core.stat().st_size > PARTITION_AT - SECTOR:
        raise InfraError(f"GRUB's core image has {core.stat().st_size} bytes: no room before the partition")
    first, count = PARTITION_AT // SECTOR, ((DISK_MB << 20) - PARTITION_AT) // SECTOR
    # Status: active; type: Linux; no cylinder, head and sector since a BIOS that needs them is long gone.
    entry = struct.pack("<B3sB3sII", 0x80, b"\xff" * 3, 0x83, b"\xff" * 3, first, count)
    sector = bytearray((GRUB_MODULES / "boot.img").read_bytes())
    sector[446:510] = entry.ljust(64, b"\0")
    with disk.open("r+b") as file:
        # As built, boot.img looks for the core image at sector 1 and the core image for its rest at sector 2.
        file.write(bytes(sector) + core.read_bytes())
