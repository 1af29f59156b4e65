# SPDX-License-Identifier: GPL-2.0-only
"""A kernel with the Xe driver on the newest tree, IGT's tests on it, and a device lent by VFIO in its guest.

There is no GPU here: the driver is loaded and finds none, IGT's tests are skipped, and what is lent is the
network card of a guest that runs Debian's own kernel, behind an IOMMU that QEMU emulates. Writes
`reports/YYYY-mm-dd-xe.md`; ends with 1 if anything is not as expected. Run it from the project's folder, as
`python -m ci.nightly.xe`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.cache import Cache, default_cache_folder
from harness.config import Experiment, load_experiment
from harness.disk import write_atomically
from harness.display import PlainProgress
from harness.experiment.kernels import BootableKernel, get_tree, make_kernel, workshop_for
from harness.experiment.options import Workshop
from harness.experiment.stage import set_stage
from harness.experiment.trial import TESTS, TrialPlan, run_trial
from harness.guest.initramfs import copy
from harness.guest.plan import Exec
from harness.kernel.kconfig import parse_fragment, read_config, unmet
from harness.scenario.catalogue import scenario_values
from tests.vm.stockguest import run_stock
from tests.vm.userland import IGT, PYTHON

HOME = Path(__file__).resolve().parent
REPORTS = HOME / "reports"
FRAGMENTS = ("box", "xe")
#: What Debian's kernel needs to have a card to lend, and to lend it.
LENDING = ("e1000", "vfio_pci", "vfio_iommu_type1")
NO_GPU = "No known gpu found"
Row = tuple[str, str, bool]


def experiment(userland: Path) -> Experiment:
    """The newest tree's own, for kernels with the driver and guests with IGT on a PCI bus."""
    plain = load_experiment("linux-7")
    base = plain.kernels["base"].model_copy(update={"fragments": FRAGMENTS})
    return plain.model_copy(
        update={
            "scenario": "xe-system-allocator",
            "kernels": {**plain.kernels, "base": base},
            "qemu": plain.qemu.model_copy(update={"userland": str(userland)}),
            "boot": plain.boot.model_copy(update={"machine": "q35", "preempt": "full"}),
        }
    )


def of_kernel(kernel: BootableKernel) -> Row:
    """Whether the build has all that the fragment asks for, and the driver as a module."""
    fragment = HOME.parents[1] / "qemu" / "kconfig" / "xe.config"
    wanted = parse_fragment(fragment.read_text(encoding="utf-8"), fragment.name)
    missing = unmet(wanted, read_config(kernel.build.config.read_text(encoding="utf-8")))
    module = kernel.driver[-1]
    said = (
        f"{kernel.build.tree}, built in {kernel.build.seconds:.0f} s: {len(wanted) - len(missing)} of "
        f"{len(wanted)} settings of the fragment; {module.name} has {module.stat().st_size / 1e6:.1f} MB, "
        f"and loads after {', '.join(path.stem for path in kernel.driver[:-1])}"
    )
    return "fragments box and xe", said, not missing and module.name == "xe.ko"


def of_igt(asked: Experiment, kernel: BootableKernel, workshop: Workshop, out: Path) -> Row:
    """A trial of the scenario as it is, on the kernel that it wants, in a guest that has no GPU."""
    scenario, values = scenario_values(asked)
    plan = TrialPlan(
        arm="base",
        index=1,
        seed=asked.seed,
        scenario=scenario,
        values=values,
        kernel=kernel,
        boot=asked.boot,
        stage=set_stage(asked.boot, "q35", kernel.build, workshop, asked.qemu),
        timeout_s=asked.trial_timeout_s,
        command="python -m ci.nightly.xe",
    )
    result = run_trial(plan, out)
    cases = json.loads((out / result.folder / TESTS).read_text())["cases"]
    skipped = [case for case in cases if case["status"] == "skipped" and case["reason"].startswith(NO_GPU)]
    good = result.kind == "not_exercised" and len(skipped) == len(cases) > 0
    said = f"{result.kind}: {result.title}; {result.seconds:.0f} s"
    return f"{scenario.name}, xe.ko loaded, {values['beside']} beside", said, good


def lendings(cache: Cache, out: Path) -> Iterator[Mapping[str, Any]]:
    """What `lending.py` says in a guest with an IOMMU and a network card."""
    package = HOME.parents[1] / "harness"
    said = run_stock(
        cache,
        out,
        PYTHON.at(cache, fresh=True),
        Exec("/usr/bin/python3", ("/srv/lending.py",)),
        [
            copy("srv/lending.py", HOME / "lending.py"),
            *(copy(f"srv/harness/{path.relative_to(package)}", path) for path in package.rglob("*.py")),
        ],
        modules=LENDING,
        # The IOMMU is there for the devices that come after it.
        before=["intel-iommu"],
        devices=["e1000"],
        fresh=True,
    )
    messages = (json.loads(line) for line in said)
    return (message for message in messages if message["type"] == "lending")


def of_lending(cache: Cache, out: Path) -> Iterator[Row]:
    """Each way of lending: that the guest could have had the device, and that its driver has it again."""
    ends = {
        "as usual": "left",
        "a failure": "HarnessError",
        "Ctrl-C": "KeyboardInterrupt",
        "the next one": "left",
    }
    steps = {one["step"]: one for one in lendings(cache, out)}
    for step, ended in ends.items():
        one = steps.get(step, {})
        good = one == {
            **one,
            "ended": ended,
            "within": "vfio-pci",
            "viable": True,
            "interfaces": [],
            "after": "e1000",
        } and bool(one.get("back"))
        said = ", ".join(f"{name} {value}" for name, value in one.items() if name not in ("type", "step"))
        yield f"a card lent, {step}", said or "nothing was said", good
    left = steps.get("killed", {}).get("after", "nothing was said")
    yield "a card lent, and the harness killed", f"left with {left}", left == "vfio-pci"


def rows(workshop: Workshop, out: Path) -> Iterator[Row]:
    """All of the night, what needs no kernel of our own first."""
    yield from of_lending(workshop.cache, out)
    asked = experiment(IGT.at(workshop.cache, fresh=True))
    tree = get_tree(asked.tree, workshop)
    kernel = make_kernel(tree, asked.kernels["base"], (), "q35", workshop_for(asked, workshop))
    yield of_kernel(kernel)
    yield of_igt(asked, kernel, workshop, out)


def main() -> int:
    """Do it and write the report after each row, so that a night cut short leaves what it has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where evidence goes")
    out = parser.parse_args().out.resolve() / f"nightly-xe-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    out.mkdir(parents=True)
    date = datetime.date.today().isoformat()
    text = (
        f"# Xe, night of {date}\n\n`ci/nightly/xe.py`: no GPU was here. Nothing below ran on real Xe "
        "hardware, nor behind a real IOMMU.\n\n| what | came to | as expected |\n|---|---|---|\n"
    )
    all_good = True
    for what, said, good in rows(Workshop.at(default_cache_folder(), PlainProgress(sys.stderr)), out):
        text += f"| {what} | {said.replace('|', '/')} | {'yes' if good else 'NO'} |\n"
        all_good = all_good and good
        write_atomically(REPORTS / f"{date}-xe.md", text.encode())
    print(text)
    return 0 if all_good else 1


if __name__ == "__main__":
    sys.exit(main())
