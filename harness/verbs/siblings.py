# SPDX-License-Identifier: GPL-2.0-only
"""`hmm-harness siblings`: 0 if all was read and no place is a bug or unknown, else 1."""

from __future__ import annotations

import argparse
import json

from harness.arguments import patch_files
from harness.config import load_experiment, parse_tree
from harness.deadline import Deadline
from harness.display import Display
from harness.experiment.kernels import get_tree, resolve_patches
from harness.experiment.options import Workshop
from harness.kernel.apply import apply_patches
from harness.siblings.report import as_json, as_lines
from harness.siblings.search import search
from harness.siblings.spatch import require_spatch

#: Seconds for all files; a whole tree takes half a minute.
_SEARCH_LIMIT_S = 3600.0
#: Where the newest tree is said, and what stands in for it on a host that is not Debian.
_NEWEST = "linux-7"


def main(arguments: argparse.Namespace, display: Display) -> int:
    """Carry the verb out; its exit status."""
    newest = load_experiment(_NEWEST)
    asked = parse_tree(arguments.tree) if arguments.tree else newest.tree
    patches = patch_files(arguments.patch)
    require_spatch()
    workshop = Workshop.at(arguments.cache, display)
    tree = get_tree(asked, workshop, None if arguments.tree else newest.tarball)
    stack = apply_patches(tree, resolve_patches(patches, tree))
    found = search(tree, stack, arguments.paths, display, Deadline.after(_SEARCH_LIMIT_S))
    display.close()
    if arguments.json:
        print(json.dumps(as_json(found, tree, stack, arguments.paths)))
    else:
        display.result(*as_lines(found, tree, stack, arguments.paths))
    return 0 if found.clean else 1
