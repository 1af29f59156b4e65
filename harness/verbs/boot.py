# SPDX-License-Identifier: GPL-2.0-only
"""`hmm-harness boot`: a shell in the guest; 0 when it has ended by itself."""

from __future__ import annotations

import argparse
import sys

from harness.arguments import in_qemu_only, patch_files
from harness.display import Display
from harness.errors import UserError
from harness.experiment.trial import boot_plan, program_entries
from harness.scenario.catalogue import load_scenario
from harness.target.shell import run_shell
from harness.verbs.common import experiment_with_kernel, ready


def main(arguments: argparse.Namespace, display: Display) -> int:
    """Carry the verb out; its exit status."""
    if not sys.stdin.isatty():
        raise UserError("boot needs a terminal", hint="use `hmm-harness run` where there is none")
    experiment = experiment_with_kernel(arguments)
    in_qemu_only(experiment, "boot")
    patches = patch_files(arguments.patch)
    kernel, stage = ready(arguments, experiment, patches, display)
    # run_shell makes an initramfs of its own; the kernel's own image stands in for one until then.
    words = load_scenario(experiment.scenario).cmdline
    plan = boot_plan(kernel, experiment.boot, stage, kernel.build.boot_image, words=words)
    display.note(f"{kernel.build.release}: a shell on the guest's console; exit ends it, or Ctrl-A x")
    display.close()
    entries = program_entries(kernel.programs, kernel.hmm_tests)
    return 0 if run_shell(plan, kernel.programs.init, entries) == 0 else 3
