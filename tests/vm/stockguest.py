# SPDX-License-Identifier: GPL-2.0-only
"""A guest with Debian's own kernel on a PCI bus, for what needs none that is built here."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.assets import asset
from harness.cache import Cache
from harness.deadline import Deadline
from harness.guest.initramfs import Entry, copy, file, tree, write_initramfs
from harness.guest.plan import PLAN_PATH, Exec, Insmod, PowerOff, Step, plan_text
from harness.kernel.modules import load_order
from harness.kmod import STATIC_FLAGS
from harness.process import run
from harness.target.protocol import BootPlan
from harness.target.qemu import Channels, qemu_argv
from tests.vm.userland import KERNEL

LIMIT_S = 300.0


def compiled(folder: Path, name: str, sources: Iterable[Path]) -> Path:
    """A static program of the harness's, as it is in this tree."""
    program = folder / name
    argv = ["gcc", *STATIC_FLAGS, "-I", str(asset("kmod")), "-o", str(program), *map(str, sources)]
    subprocess.run(argv, check=True)
    return program


def run_stock(
    cache: Cache,
    folder: Path,
    userland: Path,
    program: Exec,
    entries: Sequence[Entry] = (),
    *,
    modules: Sequence[str] = (),
    before: Sequence[str] = (),
    devices: Sequence[str] = (),
    fresh: bool = False,
) -> list[str]:
    """Run a program in such a guest, on a system of its own: what it said on the agent's channel, by lines.

    modules: are loaded first, with what they depend on. before, devices: of QEMU, as `-device` takes them,
    before and behind all others.
    """
    stock = KERNEL.at(cache, fresh=fresh)
    needed = list(dict.fromkeys(path for name in modules for path in load_order(stock / "modules", name)))
    steps: list[Step] = [*(Insmod(f"/driver/{path.name}") for path in needed), program, PowerOff()]
    image = write_initramfs(
        folder / "stock.cpio",
        [
            *tree(userland),
            copy("init", compiled(folder, "init", [asset("qemu", "init.c")]), executable=True),
            *(copy(f"driver/{path.name}", path) for path in needed),
            *entries,
            # Debian's kernel has the virtio port in modules: a second serial line does.
            file(PLAN_PATH, f"port=ttyS1\n{plan_text(steps)}".encode()),
        ],
    )
    kernel = next((stock / "boot").glob("vmlinuz-*"))
    plan = BootPlan(kernel, image, cmdline=("intel_iommu=on",), machine="q35")
    agent = folder / "stock.jsonl"
    program_, *rest = qemu_argv(plan, Channels(f"file,path={folder / 'stock.log'}", "null"))
    argv = [program_, *_devices(before), *rest, *_devices(devices)]
    argv += ["-chardev", f"file,id=port,path={agent}", "-serial", "chardev:port"]
    run(argv, deadline=Deadline.after(LIMIT_S))
    return agent.read_text(encoding="utf-8").splitlines()


def _devices(names: Sequence[str]) -> list[str]:
    return [word for name in names for word in ("-device", name)]
