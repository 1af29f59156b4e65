# SPDX-License-Identifier: GPL-2.0-only
"""A night's file to frozen values: which trees, what is run on them, for how long, who hears of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from harness.arguments import patch_files
from harness.config import Frozen, GitTree, TreeConfig, Words, check_no_qemu, validated
from harness.errors import UserError
from harness.matrix.model import Matrix, Name
from harness.selftest.cases import CASES, load_cases
from harness.suggest import did_you_mean
from harness.yamlfile import load_yaml

#: The only target that needs no file.
QEMU = "qemu"


class NightTree(Frozen):
    """A tree to follow."""

    tree: TreeConfig
    #: What is run on it; needed where there are several matrices.
    matrix: str = ""
    #: A git repository with the tags of releases (v7.3.4): where what came with a Debian package is searched.
    history: str = ""


class NightMatrix(Matrix):
    """What is run on a tree: a matrix without a tree, and which of its kernels has the bug."""

    #: The positive control: where it does not show the scenario's bug, nothing is said of the other kernels.
    control: str

    @field_validator("tree", "tarball", "target", mode="before")
    @classmethod
    def _elsewhere(cls, value: Any, info: ValidationInfo) -> Any:
        where = "has one `target`" if info.field_name == "target" else "has its trees under `trees`"
        raise ValueError(f"{info.field_name}: a night {where}")

    @model_validator(mode="after")
    def _controlled(self) -> NightMatrix:
        if self.control not in self.kernels:
            known = did_you_mean(self.control, self.kernels)
            raise ValueError(f"control names the kernel {self.control}, which is not among kernels{known}")
        if len(self.kernels) < 2:
            raise ValueError("there is no kernel beside the control")
        if not any(self.control in (entry.kernels or self.kernels) for entry in self.scenarios):
            raise ValueError(f"no scenario runs on the control, {self.control}")
        return self


class SelftestOptions(Frozen):
    """What the detectors are tried on before anything is judged."""

    #: One of `trees`; empty: the first that is not git, else the first.
    tree: str = ""
    #: Cases of the self-test; empty: all of them.
    cases: Words = ()

    @field_validator("cases")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        known = [case.name for case in load_cases(CASES)]
        for name in names:
            if name not in known:
                raise ValueError(f"no case {name!r}{did_you_mean(name, known)}: see `selftest --list`")
        return names


#: When somebody is told: after every night, or after one that does not end with 0.
When = Literal["always", "news"]


class MailOptions(Frozen):
    """A mail with the night's report. The password is read when it is needed, and written nowhere."""

    to: Annotated[tuple[Annotated[str, Field(pattern=r"^[^\s@]+@[^\s@]+$")], ...], Field(strict=False)]
    sender: Annotated[str, Field(pattern=r"^[^\s@]+@[^\s@]+$", alias="from")]
    host: str = "localhost"
    port: Annotated[int, Field(ge=1, le=65535)] = 25
    starttls: bool = False
    #: Whom to trust beside the system's authorities: a PEM file.
    ca_file: str = ""
    user: str = ""
    password_file: str = ""
    #: Name of an environment variable.
    password_env: str = ""
    timeout_s: Annotated[int, Field(ge=1, le=600)] = 30

    @model_validator(mode="after")
    def _consistent(self) -> MailOptions:
        if not self.to:
            raise ValueError("`to` is empty")
        ways = [name for name in (self.password_file, self.password_env) if name]
        if len(ways) != (1 if self.user else 0):
            raise ValueError("`user` goes with one of password_file and password_env, and these with `user`")
        if self.user and not self.starttls and self.host not in ("localhost", "127.0.0.1", "::1"):
            raise ValueError("a password goes to another host with `starttls: true` only")
        return self


class NotifyOptions(Frozen):
    """Who hears of a night."""

    when: When = "always"
    #: A program and its arguments: the report on standard input, the record's path in HMM_HARNESS_RECORD.
    command: Words = ()
    timeout_s: Annotated[int, Field(ge=1, le=3600)] = 60
    mail: MailOptions | None = None


class Nightly(Frozen):
    """What `nightly` does."""

    #: What the store knows these nights by; empty: the file's name without `.yaml`.
    name: Annotated[str, Field(pattern=r"^$|^[A-Za-z0-9][A-Za-z0-9_.+-]*$")] = ""
    #: `qemu`, or the file of a box; the self-test is in QEMU all the same.
    target: str = QEMU
    #: For all of it, self-test and bisections included.
    budget_minutes: Annotated[float, Field(gt=0, le=7 * 1440)]
    #: How many nights tonight is compared with.
    nights: Annotated[int, Field(ge=1, le=365)] = 7
    #: How often, at most, a night in which nothing has changed says that a rate or a figure has moved.
    false_alarm: Annotated[float, Field(ge=1e-6, le=0.2)] = 0.01
    trees: Annotated[dict[Name, NightTree], Field(min_length=1)]
    matrices: Annotated[dict[Name, NightMatrix], Field(min_length=1)]
    selftest: SelftestOptions = SelftestOptions()
    #: Run the bisections that are suggested, within the budget.
    auto_bisect: bool = False
    known_issues: str = ""
    notify: NotifyOptions = NotifyOptions()

    @model_validator(mode="after")
    def _consistent(self) -> Nightly:
        defects = list(self._defects())
        if defects:
            raise ValueError("; ".join(defects))
        return self

    def _defects(self) -> Iterator[str]:
        for name, tree in self.trees.items():
            if tree.matrix and tree.matrix not in self.matrices:
                near = did_you_mean(tree.matrix, self.matrices)
                yield f"trees.{name} names the matrix {tree.matrix}, which is not among matrices{near}"
            if not tree.matrix and len(self.matrices) > 1:
                yield f"trees.{name}: there are several matrices, `matrix` says which"
            if isinstance(tree.tree, GitTree) and tree.history:
                yield f"trees.{name}: a git tree has its own history"
        for name, matrix in self.matrices.items() if self.target != QEMU else ():
            try:
                check_no_qemu(matrix.boot)
            except ValueError as error:
                yield f"matrices.{name}: {error}"
        if self.selftest.tree and self.selftest.tree not in self.trees:
            near = did_you_mean(self.selftest.tree, self.trees)
            yield f"selftest names the tree {self.selftest.tree}, which is not among trees{near}"

    def matrix_of(self, tree: str) -> NightMatrix:
        """What is run on a tree."""
        return self.matrices[self.trees[tree].matrix or next(iter(self.matrices))]

    @property
    def selftest_tree(self) -> str:
        """The tree whose kernel the self-test boots: rather one that was released than a branch's tip."""
        steady = [name for name, each in self.trees.items() if not isinstance(each.tree, GitTree)]
        return self.selftest.tree or next(iter([*steady, *self.trees]))


def load_nightly(path: Path) -> Nightly:
    """A night's file; paths in it are relative to it. UserError with every defect, by its line."""
    if not path.is_file():
        raise UserError(f"no file {str(path)!r}", hint="a night's file, as ci/nightly.yaml")
    night = load_yaml(path, Nightly)
    folder = path.resolve().parent
    values = night.model_dump(mode="json", by_alias=True, exclude_none=True)
    values["name"] = night.name or path.stem
    defects: list[str] = []
    for name, matrix in values["matrices"].items():
        for key in ("tree", "tarball", "target"):
            matrix.pop(key, None)
        for key in ("preempt", "cpus"):
            matrix["boot"].pop(key)
        for kernel, settings in matrix["kernels"].items():
            try:
                settings["patches"] = patch_files(settings["patches"], folder)
            except UserError as error:
                defects.append(f"{path}: matrices.{name}.kernels.{kernel}.patches: {error.message}")
    for tree in values["trees"].values():
        _place_tree(tree, folder)
    for where, file in _files(night):
        if not (folder / Path(file).expanduser()).is_file():
            defects.append(f"{path}: {where}: no file {file!r}")
    if night.notify.mail and night.notify.mail.password_env not in ("", *os.environ):
        defects.append(f"{path}: notify.mail.password_env: {night.notify.mail.password_env} is not set")
    if defects:
        raise UserError("\n".join(defects), hint="paths are relative to the file")
    if night.target != QEMU:
        values["target"] = str((folder / night.target).resolve())
    if night.known_issues:
        values["known_issues"] = str(folder / night.known_issues)
    _place_notify(values["notify"], folder)
    return validated(Nightly, values, str(path))


def _files(night: Nightly) -> Iterator[tuple[str, str]]:
    mail = night.notify.mail
    if night.target != QEMU:
        yield "target", night.target
    if night.known_issues:
        yield "known_issues", night.known_issues
    if mail:
        files = {"ca_file": mail.ca_file, "password_file": mail.password_file}
        yield from ((f"notify.mail.{key}", file) for key, file in files.items() if file)


def _place_tree(entry: dict[str, Any], folder: Path) -> None:
    tree = entry["tree"]
    for holder, key in ((tree, "path"), (tree, "url"), (entry, "history")):
        place = holder.get(key)
        if place and "://" not in place and (folder / place).exists():
            holder[key] = str((folder / place).resolve())


def _place_notify(notify: dict[str, Any], folder: Path) -> None:
    """A program with a slash in its name, and the files of a mail, are relative to the night's file."""
    if notify["command"] and "/" in notify["command"][0]:
        notify["command"][0] = str((folder / notify["command"][0]).resolve())
    mail: Mapping[str, str] | dict[str, str] = notify.get("mail") or {}
    for key in ("ca_file", "password_file"):
        if mail.get(key):
            notify["mail"][key] = str((folder / Path(mail[key]).expanduser()).resolve())
