# SPDX-License-Identifier: GPL-2.0-only
"""Which preemption models a kernel offers on its command line, from its source and its configuration."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Collection
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import UserError
from harness.kernel.kconfig import read_config
from harness.process import run

#: Where `preempt=` is read; the function that knows the words.
_SOURCE = Path("kernel/sched/core.c")
_FUNCTION = re.compile(r"^int sched_dynamic_mode\(const char \*str\)\n\{\n.*?^\}\n", re.M | re.S)
_LIMIT_S = 10.0

#: What a kernel must be, to offer a model.
HINTS = {
    "none": "from 7.0 on, x86 has none and voluntary only with the patch x86-preempt-choice",
    "voluntary": "from 7.0 on, x86 has none and voluntary only with the patch x86-preempt-choice",
    "full": "every kernel with CONFIG_PREEMPT_DYNAMIC has full",
    "lazy": "lazy exists from 6.13 on, and not with the patch x86-preempt-choice; "
    "for 7.x, the experiment linux-7-lazy has such kernels",
}


def offered_models(source: Path, config: str) -> frozenset[str]:
    """What `sched_dynamic_mode()` of the tree accepts with this .config, as the C preprocessor reads it.

    Empty without CONFIG_PREEMPT_DYNAMIC, and where the tree has no such function: nothing can be chosen.
    """
    symbols = read_config(config)
    found = _FUNCTION.search((source / _SOURCE).read_text(encoding="utf-8", errors="replace"))
    if symbols.get("PREEMPT_DYNAMIC") != "y" or not found:
        return frozenset()
    defines = [f"-DCONFIG_{name}=1" for name, value in symbols.items() if value == "y" and "PREEMPT" in name]
    with tempfile.TemporaryFile() as text:
        text.write(found[0].encode())
        text.seek(0)
        argv = ["gcc", "-E", "-P", "-x", "c", *defines, "-"]
        done = run(argv, deadline=Deadline.after(_LIMIT_S), stdin=text)
    return frozenset(re.findall(r'strcmp\(str, "(\w+)"\)', done.output))


def check_offered(model: str, kernel: str, offered: Collection[str]) -> None:
    """UserError if a guest that is to run under `model` could not on this kernel."""
    if model in offered:
        return
    there = (
        ", ".join(word for word in HINTS if word in offered)
        or "nothing to choose from: it is built without CONFIG_PREEMPT_DYNAMIC"
    )
    raise UserError(
        f"preempt={model} cannot be had of the kernel {kernel}: it offers {there}", hint=HINTS[model]
    )
