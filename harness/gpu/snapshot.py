# SPDX-License-Identifier: GPL-2.0-only
"""The PCI part of a machine's sysfs, taken by two commands on it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.gpu.pci import DEVICES

#: Both follow the links that the folder holds, and go no deeper than a device's own attributes.
_FIND = ("find", "-L", DEVICES, "-mindepth", "2", "-maxdepth", "2")
TEXTS = (
    *_FIND, "-type", "f",
    "(", "-name", "vendor", "-o", "-name", "device", "-o", "-name", "class", ")",
    "-exec", "grep", "-H", "", "{}", "+",
)  # fmt: skip
LINKS = (
    "find", f"{DEVICES}/", "-mindepth", "1", "-maxdepth", "1",
    "-exec", "find", "{}/", "-mindepth", "1", "-maxdepth", "1",
    "(", "-name", "driver", "-o", "-name", "iommu_group", ")", "-printf", "%p %l\\n", ";",
)  # fmt: skip


@dataclass(frozen=True)
class Snapshot:
    """Files by path; see `harness.gpu.sysfs.Files`."""

    texts: Mapping[str, str]
    links: Mapping[str, str]

    def names(self, folder: str) -> list[str]:
        """See `Files.names`."""
        inside = f"{folder.rstrip('/')}/"
        paths = (path for path in (*self.texts, *self.links) if path.startswith(inside))
        return sorted({path[len(inside) :].partition("/")[0] for path in paths})

    def text(self, path: str) -> str | None:
        """See `Files.text`."""
        return self.texts.get(path)

    def link(self, path: str) -> str | None:
        """See `Files.link`."""
        return self.links.get(path)


def snapshot(run: Callable[[Sequence[str]], str]) -> Snapshot:
    """What a machine's sysfs says of its PCI devices; `run` gives what a command prints there.

    A machine without a PCI bus has none: `find` then fails, which is no error.
    """
    texts = dict(re.findall(r"^(/[^:]+(?::[^:/]+){2}/\w+):(.*)$", run(TEXTS), re.M))
    found = re.findall(r"^(/\S+) (\S+)$", run(LINKS), re.M)
    return Snapshot(texts, {re.sub("//+", "/", path): target.rpartition("/")[2] for path, target in found})
