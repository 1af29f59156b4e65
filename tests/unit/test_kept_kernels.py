# SPDX-License-Identifier: GPL-2.0-only
"""What a run keeps of its kernels: configuration, patches as they were, and how two configurations differ."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.experiment.trial import kernel_json
from harness.kernel.patches import Catalogue, read_patches
from harness.kernel.product import PatchRecord
from harness.results.kernels import config_diff, keep_kernel, kept_config, kept_diffs
from harness.results.schema import KernelFacts
from tests.unit.runroom import kernel

PATCH = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"


def test_a_run_keeps_the_text_of_every_patch_wherever_it_came_from(tmp_path: Path) -> None:
    run, mail = tmp_path / "run", tmp_path / "run" / "patches" / "01-fix.patch"
    mail.parent.mkdir(parents=True)
    mail.write_text(PATCH)
    known = Catalogue.load().resolve("x86-preempt-choice", "7.3.4")
    (own,) = read_patches(mail)
    records = tuple(
        PatchRecord(patch.name, patch.title, patch.role, "applied", "", patch.sha256)
        for patch in (known, own)
    )
    build = replace(kernel(tmp_path, "base").build, patches=records)
    build.config.parent.mkdir(parents=True, exist_ok=True)
    build.config.write_text("CONFIG_HMM=y\n")
    keep_kernel(run, build)
    mail.unlink()
    facts = KernelFacts.model_validate(kernel_json(build))
    assert kept_diffs(run, facts) == {known.sha256: known.text, own.sha256: PATCH}
    assert kept_config(run, facts) == "CONFIG_HMM=y\n"
    build.config.unlink()
    keep_kernel(run, build)  # once is enough: a second trial of the kernel reads nothing


def test_configurations_differ_by_their_settings_alone() -> None:
    one = '# CONFIG_A is not set\nCONFIG_B=y\nCONFIG_S="x=y"\n'
    other = 'CONFIG_S="x=z"\n# a comment\nCONFIG_B=y\nCONFIG_A=m\nCONFIG_NEW=1\n'
    assert config_diff(one, other) == (
        "-CONFIG_A=n", "+CONFIG_A=m", "+CONFIG_NEW=1", '-CONFIG_S="x=y"', '+CONFIG_S="x=z"',
    )  # fmt: skip
    assert config_diff(one, one) == ()
