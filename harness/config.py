# SPDX-License-Identifier: GPL-2.0-only
"""An experiment file to frozen values: every error at once, each with file, line and key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from harness.assets import asset
from harness.errors import UserError
from harness.suggest import did_you_mean
from harness.yamlfile import load_yaml

EXPERIMENTS = Path(__file__).resolve().parent / "experiment" / "builtin"

Preempt = Literal["none", "voluntary", "full", "lazy"]
Role = Literal["control", "candidate"]
#: How often, at most, a comparison until it is sure may call a candidate fixed that is as bad as the control.
DEFAULT_ERROR = 0.05
Model = TypeVar("Model", bound=BaseModel)


#: Comparisons of kernel versions, as in ">=6.12,<6.13".
VERSIONS = r"^$|^(>=|<=|==|<|>)\s*\d+(\.\d+){0,2}(\s*,\s*(>=|<=|==|<|>)\s*\d+(\.\d+){0,2})*$"
_SETTING = r"^CONFIG_[A-Za-z0-9_]+=\S.*$"

#: YAML has lists; the values inside stay strict.
Words = Annotated[tuple[str, ...], Field(strict=False)]


class Frozen(BaseModel):
    """Read strictly (no "2" for 2), no unknown keys, never changed afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DebianTree(Frozen):
    """A Debian source package; `package: newest` is the newest linux-source of trixie-backports."""

    kind: Literal["debian"] = "debian"
    package: str = "newest"


class TarballTree(Frozen):
    """A release tarball: http, https or file URL, and the SHA-256 it must have."""

    kind: Literal["tarball"]
    url: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class GitTree(Frozen):
    """A git repository (URL or path) at any revision."""

    kind: Literal["git"]
    url: str
    revision: str = "HEAD"


class FolderTree(Frozen):
    """A folder of sources, which is only read."""

    kind: Literal["folder"]
    path: str


TreeConfig = Annotated[DebianTree | TarballTree | GitTree | FolderTree, Field(discriminator="kind")]


def known_fragments() -> dict[str, Path]:
    """The fragments of kernel configuration that come with the harness, by name."""
    return {path.stem: path for path in sorted(asset("qemu", "kconfig").glob("*.config"))}


class KernelConfig(Frozen):
    """A kernel: the tree with these patches (catalogue ids or files) and settings (`CONFIG_X=y`).

    fragments: more settings, by the name of a file in `qemu/kconfig` without `.config`, as in `debug`.
    """

    patches: Words = ()
    fragments: Words = ()
    config: Annotated[tuple[Annotated[str, Field(pattern=_SETTING)], ...], Field(strict=False)] = ()

    @field_validator("fragments")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        known = known_fragments()
        for name in names:
            if name not in known:
                raise ValueError(
                    f"no fragment {name!r}{did_you_mean(name, known)}: there are {', '.join(known)}"
                )
        return names


class ArmConfig(Frozen):
    """One side of the comparison: a kernel, further patches, and what the experiment uses it as."""

    kernel: str
    role: Role
    patches: Words = ()

    @property
    def label(self) -> str:
        """The kernel with the arm's own patches, as tables show it."""
        return " + ".join([self.kernel, *(Path(patch).name for patch in self.patches)])


class BootConfig(Frozen):
    """How a guest is started. Thresholds are ordered so that a cause reports before its consequences."""

    preempt: Preempt = "none"
    cpus: Annotated[int, Field(ge=1, le=8)] = 2
    memory_mb: Annotated[int, Field(ge=256, le=65536)] = 1024
    machine: Literal["auto", "microvm", "q35"] = "auto"
    accel: Literal["auto", "tcg", "kvm"] = "auto"
    #: `virtual`: a trial repeats exactly; its kernel keeps its own thresholds, not those below.
    clock: Literal["host", "virtual"] = "host"
    #: `watchdog_thresh`, s; the soft lockup watchdog reports after twice this.
    watchdog_thresh_s: Annotated[int, Field(ge=1, le=60)] = 1
    #: `rcupdate.rcu_cpu_stall_timeout`, s.
    rcu_stall_s: Annotated[int, Field(ge=3, le=300)] = 5
    #: `workqueue.watchdog_thresh`, s.
    workqueue_thresh_s: Annotated[int, Field(ge=1, le=300)] = 8
    #: `kernel.hung_task_timeout_secs`, s.
    hung_task_s: Annotated[int, Field(ge=1, le=600)] = 12
    #: Further words for the kernel's command line.
    cmdline: Words = ()

    @model_validator(mode="after")
    def _countable(self) -> BootConfig:
        if self.clock == "virtual" and self.accel == "kvm":
            raise ValueError("clock: virtual needs TCG (accel: auto or tcg)")
        return self


class QemuConfig(Frozen):
    """What guests have beyond what the harness brings: a device of this machine, a system of their own."""

    #: The address of a PCI device, which is bound to vfio-pci for a guest and given back after it.
    vfio: Annotated[str, Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$")] | None = None
    #: A folder with a system unpacked in it, which becomes the guest's root; all of it is in its memory.
    userland: str | None = None


def check_no_qemu(boot: BootConfig) -> None:
    """ValueError for a guest that cannot be a box."""
    if (boot.clock, boot.machine, boot.accel) != ("host", "auto", "auto"):
        raise ValueError("a target is no QEMU: leave out boot.clock, boot.machine and boot.accel")


class Experiment(Frozen):
    """What `compare` does. Kernels are named by content; control and candidate are roles of the arms."""

    #: Kernel versions this file is meant for, as in ">=7.0" or ">=6.12,<6.13"; empty: any.
    versions: Annotated[str, Field(pattern=VERSIONS)] = ""
    scenario: str = "trylock-starvation"
    #: Scenario parameters that differ from their defaults.
    set: dict[str, int | str] = {}
    tree: TreeConfig = DebianTree()
    #: Used instead of the Debian source package on a host that is not Debian.
    tarball: TarballTree | None = None
    kernels: dict[str, KernelConfig]
    arms: dict[str, ArmConfig]
    boot: BootConfig = BootConfig()
    qemu: QemuConfig = QemuConfig()
    #: The file of a box that trials run on instead of QEMU.
    target: str = ""
    trials: Annotated[int, Field(ge=1, le=10000)] = 6
    #: If given, `trials` is the most: it stops when the verdict stands, which is `fixed` wrongly so often.
    error: Annotated[float, Field(ge=1e-6, le=0.5)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    #: The largest image of its memory (compressed) kept of a trial that does not complete, MB; 0: none.
    memory_image_mb: Annotated[int, Field(ge=0, le=65536)] = 64
    #: Wall time of one trial, s.
    trial_timeout_s: Annotated[int, Field(ge=5, le=86400)] = 120

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        for name, arm in self.arms.items():
            if arm.kernel not in self.kernels:
                hint = did_you_mean(arm.kernel, self.kernels)
                raise ValueError(
                    f"arm {name} names the kernel {arm.kernel}, which is not among kernels{hint}"
                )
        if self.qemu.vfio and (self.boot.machine, self.boot.clock) != ("q35", "host"):
            raise ValueError("qemu.vfio needs `boot: {machine: q35, clock: host}`: a PCI bus, and real time")
        if self.target and self.qemu != QemuConfig():
            raise ValueError("a target is no QEMU: leave out qemu")
        if self.target:
            check_no_qemu(self.boot)
        roles = sorted(arm.role for arm in self.arms.values())
        if roles != ["candidate", "control"]:
            raise ValueError(
                "an experiment has two arms: one with `role: control`, one with `role: candidate`"
            )
        return self

    def arm_of(self, role: Role) -> str:
        """The name of the arm with this role."""
        return next(name for name, arm in self.arms.items() if arm.role == role)


def validated(model: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """Values from elsewhere than a file as a model; UserError with every defect."""
    try:
        # JSON has lists and strings only, which is what strict models take for tuples and words.
        return model.model_validate_json(json.dumps(values))
    except ValidationError as error:
        defects = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise UserError(f"{where}: " + "; ".join(defects)) from error


def builtin_experiments() -> dict[str, Path]:
    """The experiments that come with the harness, by name; the first for a version is its default."""
    return {path.stem: path for path in sorted(EXPERIMENTS.glob("*.yaml"), key=lambda path: path.stem)}


def load_experiment(reference: str) -> Experiment:
    """An experiment by built-in name or by path; UserError with every defect of the file."""
    return load_named("no experiment", reference, builtin_experiments(), Experiment)


def load_named(missing: str, reference: str, builtin: Mapping[str, Path], model: type[Model]) -> Model:
    """What comes with the harness under a name, or is in a file; UserError with every defect of the file.

    `missing` says what is not there: no experiment, no matrix.
    """
    if reference in builtin:
        found = _read_once(builtin[reference], model)
        assert isinstance(found, model)
        return found
    path = Path(reference)
    if not path.is_file():
        raise UserError(
            f"{missing} {reference!r}{did_you_mean(reference, builtin)}",
            hint=f"a YAML file, or one of: {', '.join(builtin)}",
        )
    return load_yaml(path, model)


@cache
def _read_once(path: Path, model: type[BaseModel]) -> BaseModel:
    """A file that comes with the harness: it does not change, and is asked for again and again."""
    return load_yaml(path, model)


def parse_tree(text: str) -> DebianTree | TarballTree | GitTree | FolderTree:
    """A tree as the command line names it.

    `debian[:PACKAGE]`, `tarball:URL#sha256=HEX`, `git:URL[@REVISION]`, `folder:PATH`. UserError otherwise.
    """
    kind, _, rest = text.partition(":")
    if kind == "debian":
        return DebianTree(package=rest or "newest")
    if kind == "tarball" and "#sha256=" in rest:
        url, _, digest = rest.partition("#sha256=")
        if len(digest) == 64 and all(c in "0123456789abcdef" for c in digest):
            return TarballTree(kind="tarball", url=url, sha256=digest)
    if kind == "git" and rest:
        url, revision = _split_revision(rest)
        local = Path(url)
        return GitTree(kind="git", url=str(local.resolve()) if local.exists() else url, revision=revision)
    if kind == "folder" and rest:
        return FolderTree(kind="folder", path=str(Path(rest).resolve()))
    raise UserError(
        f"cannot read the tree {text!r}",
        hint="debian[:PACKAGE], tarball:URL#sha256=HEX, git:URL[@REVISION] or folder:PATH",
    )


def _split_revision(text: str) -> tuple[str, str]:
    """Repository and revision of `URL[@REVISION]`.

    A revision may hold slashes, and a URL an `@` before its host.
    """
    places = [index for index, letter in enumerate(text) if letter == "@"]
    for place in reversed(places):
        if Path(text[:place]).exists():
            return text[:place], text[place + 1 :] or "HEAD"
    # Behind the host: after the slash that ends it, or the colon of user@host:path.
    start = text.find("/", text.index("://") + 3) if "://" in text else text.find(":")
    place = text.find("@", start + 1)
    return (text[:place], text[place + 1 :] or "HEAD") if place >= 0 else (text, "HEAD")
