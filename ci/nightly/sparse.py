# SPDX-License-Identifier: GPL-2.0-only
"""sparse over both modules, against the newest tree and 6.12: it must have nothing to say.

The sparse of Debian 12 and 13 cannot read the headers of 7.x: this takes the one of `testing`, with the C
library it wants, unpacked below the cache and installed nowhere. That it looks at all is shown first, by a
mistake it must find. Writes `reports/YYYY-mm-dd-sparse.md`.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from citizen import REPORTS

from harness.assets import asset
from harness.cache import Cache, default_cache_folder
from harness.config import load_experiment
from harness.deadline import Deadline
from harness.disk import write_atomically
from harness.display import PlainProgress
from harness.errors import InfraError
from harness.experiment.kernels import get_tree, kernel_request, resolve_patches
from harness.experiment.options import Workshop
from harness.kernel.apt import PrivateApt, Source, mirror, read_sources
from harness.kernel.build import BuildRequest, build_kernel, workspace_at
from harness.kernel.make import make_env, module_argv, toolchain
from harness.process import run
from harness.target.machine import pick_machine

SUITE = "testing"
PACKAGES = ("sparse", "libc6")
LIMIT_S = 1800.0
KERNELS = (("linux-7", "base"), ("linux-6.12", "trylock-with-wait"))
#: sparse must object to this: user memory, read as if it were the kernel's.
CONTROL = """
int hh_control(int __user *pointer);
int hh_control(int __user *pointer)
{
	return *pointer;
}
"""
CONTROL_SAYS = "dereference of noderef expression"
COMPLAINT = re.compile(r"^.*: (?:warning|error): .*$", re.M)


def checker(cache: Cache, progress: PlainProgress, deadline: Deadline) -> tuple[Path, str]:
    """A program that runs sparse, and its version; fetched once. InfraError if it cannot be had."""
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    home = mirror(read_sources(Path("/etc/apt")), codename)
    if home is None:
        raise InfraError("the system's apt has no Debian source", hint="run this on Debian")
    with cache.lock("sparse", deadline, progress.note):
        source = Source(home.uris, (SUITE,), ("main",), home.options)
        apt = PrivateApt.create(cache.folder("apt", SUITE), [source], deadline)
        complaint = apt.update(deadline)
        found = {package: apt.show(package, deadline) for package in PACKAGES}
        versions = {package: fields["Version"] for package, fields in found.items() if fields}
        if len(versions) < len(PACKAGES):
            raise InfraError(f"no {' or '.join(PACKAGES)} in Debian {SUITE} ({complaint})")
        target = cache.folder("tools") / f"sparse-{versions['sparse']}-{versions['libc6']}"
        if not target.is_dir():
            with cache.making(target) as draft:
                for package, version in versions.items():
                    archive = apt.download(package, version, deadline, lambda _: None)
                    run(["dpkg-deb", "-x", str(archive), str(draft)], deadline=deadline)
                (draft / "check").write_text(
                    "#!/bin/sh\n"
                    f"root='{target}'\n"
                    'for loader in "$root"/usr/lib/*/ld-linux*.so.*; do\n'
                    '\texec "$loader" --library-path "${loader%/*}" "$root/usr/bin/sparse" "$@"\n'
                    "done\n"
                )
                (draft / "check").chmod(0o755)
    return target / "check", versions["sparse"]


def complaints(
    request: BuildRequest, workshop: Workshop, check: Path, module: str, deadline: Deadline, extra: str = ""
) -> Sequence[str]:
    """What sparse says of the module below `kmod/module`, with `extra` behind the last of its files."""
    build = build_kernel(request, workshop.cache, workshop.progress, deadline)
    with (
        tempfile.TemporaryDirectory() as scratch,
        workspace_at(request, workshop.cache, workshop.progress, deadline) as workspace,
    ):
        folder = Path(shutil.copytree(asset("kmod", *module.split()), Path(scratch) / "kmod"))
        if extra:
            last = max(folder.glob("*.c"))
            last.write_text(last.read_text(encoding="utf-8") + extra, encoding="utf-8")
        words = ["W=1", "C=2", f"CHECK={check}", "modules"]
        argv = module_argv(workspace.obj, folder, words, toolchain(), request.jobs)
        made = run(argv, env=make_env(build.build_host), deadline=deadline)
        if "CHECK" not in made.output:
            raise InfraError("make has not run sparse", hint=made.output[-500:])
    return COMPLAINT.findall(made.output)


def main() -> int:
    """Run sparse and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="not used: there is no evidence but the report")
    parser.parse_args()
    progress = PlainProgress(sys.stderr)
    workshop = Workshop.at(default_cache_folder(), progress)
    deadline = Deadline.after(LIMIT_S)
    check, version = checker(workshop.cache, progress, deadline)
    rows = []
    good = True
    for name, kernel in KERNELS:
        experiment = load_experiment(name)
        tree = get_tree(experiment.tree, workshop)
        config = experiment.kernels[kernel]
        request = kernel_request(tree, resolve_patches(config.patches, tree), config, pick_machine("auto"))
        control = complaints(request, workshop, check, "", deadline, CONTROL)
        seen = any(CONTROL_SAYS in line for line in control)
        for module, title in (("", "hmm_harness"), ("selftest", "hmm_selftest")):
            said = complaints(request, workshop, check, module, deadline)
            good = good and seen and not said
            words = "; ".join(said) or ("nothing" if seen else "nothing, but it does not see the mistake")
            rows.append(f"| {title} | {tree.description} | {words} |")
            print(rows[-1], file=sys.stderr)
    date = datetime.date.today().isoformat()
    text = (
        f"# sparse, night of {date}\n\n`ci/nightly/sparse.py`: sparse {version} of Debian {SUITE}. A mistake"
        " that was put in on purpose comes first; nothing counts that did not see it.\n\n"
        "| module | against | sparse says |\n|---|---|---|\n"
    )
    REPORTS.mkdir(exist_ok=True)
    write_atomically(REPORTS / f"{date}-sparse.md", (text + "\n".join(rows) + "\n").encode())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
