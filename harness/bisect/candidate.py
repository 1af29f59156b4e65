# SPDX-License-Identifier: GPL-2.0-only
"""What the subjects share: the kernel of a candidate, or why it cannot be had."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import replace

from harness.bisect.model import UnusableError
from harness.errors import UserError
from harness.experiment.kernels import BootableKernel, finish_kernel
from harness.experiment.options import Workshop
from harness.kernel.build import BuildRequest
from harness.kernel.make import BuildError

#: Where the source is while it is built.
_WORKSPACE = re.compile(r"/\S*/workspaces/[^\s/]+/src/")
_ERROR = re.compile(r"(?:^|\s)(?:fatal )?error:|undefined reference|^ERROR:|\*\*\* ", re.I)


@contextlib.contextmanager
def unusable() -> Iterator[None]:
    """Turn what is wrong with a candidate into UnusableError; InfraError stays what it is."""
    try:
        yield
    except (BuildError, UserError) as error:
        raise UnusableError(reason(error.message), hint=error.hint) from error


def build_candidate(request: BuildRequest, workshop: Workshop) -> BootableKernel:
    """A kernel as a bisection needs it: near to the one before it, and without the self-test's module.

    UnusableError if it, or the module, does not build.
    """
    with unusable():
        return finish_kernel(replace(request, follows=True), workshop, with_selftest=False)


def reason(message: str) -> str:
    """An error in a line: what it says first, and of a build the compiler's own; paths as in the tree."""
    first, *rest = _WORKSPACE.sub("", message).splitlines()
    if not first.endswith(":"):
        return first
    said = next((line for line in rest if _ERROR.search(line)), rest[0] if rest else "")
    return f"{first} {said.strip()}"
