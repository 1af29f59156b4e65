# SPDX-License-Identifier: GPL-2.0-only
"""The catalogue of changes to the kernel, and patches from anywhere."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, field_validator

from harness.assets import asset
from harness.errors import UserError
from harness.kernel.mail import diff_texts
from harness.kernel.spec import version_tuple
from harness.suggest import nearest
from harness.yamlfile import load_yaml

Role = Literal["introduces", "fix", "enabler", "build-fix", "test"]
_COMPARISON = re.compile(r"(>=|<=|==|<|>)\s*(\d+(?:\.\d+){0,2})")


@dataclass(frozen=True)
class Patch:
    """One change: a diff as text (bytes that are no UTF-8 as surrogates), and what is known of it.

    id: name in the catalogue, None for a user's own. sha256: of the diff, in hex.
    """

    id: str | None
    title: str
    role: str
    text: str
    note: str
    path: Path

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode(errors="surrogateescape")).hexdigest()

    @property
    def name(self) -> str:
        """What reports call it."""
        return self.id or self.path.name


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _File(_Strict):
    versions: str
    file: str

    @field_validator("versions")
    @classmethod
    def _range(cls, value: str) -> str:
        for part in value.split(","):
            if not _COMPARISON.fullmatch(part.strip()):
                raise ValueError(f"{part.strip()!r} is no comparison such as >=6.12")
        return value


class Entry(_Strict):
    """What the catalogue says of a change, and which file has it for which kernel versions."""

    id: str
    #: Which bug it is about; a build fix is about none.
    bug: str = ""
    role: Role
    title: str
    upstream: str
    note: str = ""
    #: Of a candidate fix: whose idea it is, and what was said or can be read against it.
    idea: str = ""
    against: str = ""
    files: tuple[_File, ...]


class _Listing(_Strict):
    patches: tuple[Entry, ...]

    @field_validator("patches")
    @classmethod
    def _unique(cls, value: tuple[Entry, ...]) -> tuple[Entry, ...]:
        names = [entry.id for entry in value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"the id {', '.join(twice)} is given twice")
        return value


def in_range(version: str, versions: str) -> bool:
    """True if a kernel version meets all comparisons of a range such as ">=6.12,<6.13"."""
    have = version_tuple(version)
    for part in versions.split(","):
        match = _COMPARISON.fullmatch(part.strip())
        if match is None:
            raise UserError(f"{part!r} is no version comparison", hint="write it like >=6.12")
        bound = version_tuple(match[2])
        holds = {
            ">=": have >= bound,
            "<=": have <= bound,
            ">": have > bound,
            "<": have < bound,
            "==": have == bound,
        }[match[1]]
        if not holds:
            return False
    return True


@dataclass(frozen=True)
class Catalogue:
    """The changes known by name; `folder` is where their files are."""

    folder: Path
    entries: tuple[Entry, ...]

    @classmethod
    def load(cls, path: Path | None = None) -> Catalogue:
        """Read a catalogue, by default the shipped one. UserError with all mistakes in it."""
        return _shipped() if path is None else cls(path.parent, load_yaml(path, _Listing).patches)

    @property
    def ids(self) -> list[str]:
        return [entry.id for entry in self.entries]

    def entry(self, name: str) -> Entry:
        """What is known of the named change. UserError: no such name."""
        entry = next((entry for entry in self.entries if entry.id == name), None)
        if entry is None:
            close = nearest(name, self.ids, 0.4)
            hint = f"did you mean {close!r}?" if close else f"known: {', '.join(self.ids)}"
            raise UserError(f"there is no patch {name!r} in the catalogue", hint=hint)
        return entry

    def resolve(self, name: str, version: str) -> Patch:
        """The named change for a kernel version. UserError: no such name, or no file for that version."""
        entry = self.entry(name)
        patch = self._covering(entry, version)
        if patch is None:
            covered = " or ".join(file.versions for file in entry.files)
            raise UserError(
                f"patch {name!r} has no file for kernel {version}",
                hint=f"it covers {covered}; --patch takes a file of yours",
            )
        return patch

    def build_fixes(self, version: str) -> tuple[Patch, ...]:
        """The changes without which some kernels of a version do not compile, in the catalogue's order."""
        found = (self._covering(entry, version) for entry in self.entries if entry.role == "build-fix")
        return tuple(patch for patch in found if patch)

    def leaves_off(self, name: str, version: str) -> bool:
        """True for an enabler that has nothing to enable in a kernel version: no file of its covers that."""
        return any(
            entry.id == name and entry.role == "enabler" and self._covering(entry, version) is None
            for entry in self.entries
        )

    def _covering(self, entry: Entry, version: str) -> Patch | None:
        """A change as it is for a kernel version; None if no file covers that."""
        for file in entry.files:
            if in_range(version, file.versions):
                path = self.folder / file.file
                text = "".join(text for _, text in read_file(path))
                return Patch(entry.id, entry.title, entry.role, text, entry.note, path)
        return None


@cache
def _shipped() -> Catalogue:
    return Catalogue.load(asset("patches", "catalogue.yaml"))


def read_file(path: Path) -> list[tuple[str, str]]:
    """The (title, diff) pairs in a file. UserError if it cannot be read or holds no diff."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return diff_texts(data, str(path))


def read_patches(path: Path) -> tuple[Patch, ...]:
    """The changes in a user's file, in order: a diff, or mails with diffs in them (see `mail.diff_texts`)."""
    return tuple(Patch(None, title or path.name, "fix", text, "", path) for title, text in read_file(path))
