# SPDX-License-Identifier: GPL-2.0-only
"""A matrix of real kernels, killed on the way: it goes on, and repeats no finished trial."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from tests.vm.conftest import HARNESS, Kernels, harness, qemu_of

pytestmark = pytest.mark.vm

MATRIX = """\
kernels:
  unfixed: {{patches: {unfixed}}}
  fixed: {{patches: {fixed}}}
  broken: {{patches: {broken}}}
preempt: [none, full]
scenarios:
  - {{scenario: trylock-starvation-forced, label: forced}}
  - {{scenario: trylock-starvation-forced, label: alone, cpus: [1], kernels: [fixed]}}
  - scenario: fault-cost-shared
    label: cost
    set: {{iterations: 4, pages: 4}}
    clock: virtual
    preempt: [none]
    kernels: [unfixed, fixed]
  - {{scenario: upstream-hmm-tests, label: suite, preempt: [none], kernels: [fixed]}}
trials: 1
relative_to: fixed
"""
#: Applies, and does not compile: the kernel, or its tests.
BROKEN = """\
--- a/{file}
+++ b/{file}
@@ -1,3 +1,4 @@
+#error broken on purpose
 // SPDX-License-Identifier: {licence}
 /*
  * {words}
"""
KERNEL = {"file": "mm/hmm.c", "licence": "GPL-2.0-or-later", "words": "Copyright 2013 Red Hat Inc."}
TESTS = {
    "file": "tools/testing/selftests/mm/hmm-tests.c",
    "licence": "GPL-2.0",
    "words": "HMM stands for Heterogeneous Memory Management, it is a helper layer inside",
}


def finished(folder: Path) -> dict[str, str]:
    """The records of finished trials below the runs in `folder`, by the trials' names."""
    records = {path.parent.name: path.read_text() for path in folder.glob("*/trials/*/run.json")}
    return {name: text for name, text in records.items() if json.loads(text)["state"] == "finished"}


def test_killed_it_goes_on_and_a_kernel_that_does_not_compile_fails_its_cells_only(
    newest: Kernels, tmp_path: Path
) -> None:
    kernels = newest.experiment.kernels
    names = {arm: list(kernels[newest.experiment.arms[arm].kernel].patches) for arm in ("unfixed", "fixed")}
    names["broken"] = [*names["fixed"], "broken.patch"]
    names["fixed"].append("broken-tests.patch")
    (tmp_path / "m.yaml").write_text(MATRIX.format(**names))
    (tmp_path / "broken.patch").write_text(BROKEN.format(**KERNEL))
    (tmp_path / "broken-tests.patch").write_text(BROKEN.format(**TESTS))
    out = tmp_path / "runs"
    child = subprocess.Popen([str(HARNESS), "matrix", str(tmp_path / "m.yaml"), "--out", str(out)])
    try:
        deadline = time.monotonic() + 300
        while not finished(out) and time.monotonic() < deadline:
            assert child.poll() is None
            time.sleep(0.05)
    finally:
        child.kill()
        child.wait()
    before = finished(out)
    assert before and not qemu_of(out)

    (folder,) = out.iterdir()
    ran = harness("matrix", "--resume", str(folder), "--json", out=out)
    assert ran.status == 1, ran.err  # a kernel of it has no answer
    assert {name: finished(out)[name] for name in before} == before
    cells = {(cell["label"], cell["kernel"], cell["preempt"]): cell for cell in ran.json["cells"]}
    assert cells[("forced", "unfixed", "none")]["outcomes"] == {"livelock": 1}
    assert cells[("forced", "unfixed", "none")]["rate"] == 1.0
    for place in (("unfixed", "full"), ("fixed", "none"), ("fixed", "full")):
        assert cells[("forced", *place)]["outcomes"] == {"completed": 1}
    broken = cells[("forced", "broken", "full")]
    assert broken["state"] == "failed" and "broken on purpose" in broken["reason"]
    suite = cells[("suite", "fixed", "none")]
    assert suite["state"] == "failed" and suite["reason"].startswith("hmm-tests of fixed cannot be built: ")
    assert "broken on purpose" in suite["reason"]
    alone = cells[("alone", "fixed", "none")]
    assert alone["state"] == "not applicable" and "needs 2 CPUs" in alone["reason"]
    # Whoever waits for the page faults once more; whoever spins, for as long as the driver takes.
    cost = {arm: cells[("cost", arm, "none")]["metrics"] for arm in ("unfixed", "fixed")}
    assert 2 <= cost["fixed"]["two_cpu_faults_faults"] <= 4
    assert cost["unfixed"]["two_cpu_faults_faults"] > 5 * cost["fixed"]["two_cpu_faults_faults"]
    markdown = (folder / "report.md").read_text()
    assert "1/1 livelock" in markdown and "(1.00x)" in markdown

    before = finished(out)
    again = harness("matrix", "--resume", str(folder), out=out)  # what has no answer is tried again
    assert again.status == 1 and finished(out) == before
