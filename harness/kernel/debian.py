# SPDX-License-Identifier: GPL-2.0-only
"""Kernel source as Debian packages it, fetched by an apt of our own."""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.cache import Cache, sha256_file
from harness.deadline import Deadline
from harness.errors import InfraError, UserError
from harness.kernel.apt import PrivateApt, Source, archive_sources, mirror, read_sources
from harness.kernel.spec import DebianSpec, KernelTree, kernel_version, recall, remember
from harness.kernel.unpack import source_top, unpack
from harness.process import run
from harness.progress import Progress

#: The suite that has the newest kernels for a stable release.
BACKPORTS = "trixie-backports"
#: What every current Debian release has, when that suite cannot be had.
FALLBACK_PACKAGE = "linux-source-6.12"
#: Seconds for which an answer from the archive is taken as it is.
FRESH_S = 86400.0
_PACKAGE = r"linux-source-\d+\.\d+"


def is_debian(etc: Path = Path("/etc")) -> bool:
    """True on Debian itself, with apt: a derivative's archive has other packages."""
    try:
        release = dict(platform.freedesktop_os_release())
    except OSError:
        release = {}
    return release.get("ID") == "debian" and shutil.which("apt-get") is not None and (etc / "apt").is_dir()


@dataclass(frozen=True)
class _Choice:
    """A package, and the apt that knows it."""

    apt: PrivateApt
    package: str
    fields: dict[str, str]


def fetch_debian(
    spec: DebianSpec,
    cache: Cache,
    progress: Progress,
    deadline: Deadline,
    *,
    etc: Path = Path("/etc/apt"),
    codename: str | None = None,
    fresh_s: float = FRESH_S,
) -> KernelTree:
    """The tree of a Debian source package.

    An answer younger than `fresh_s` is not asked for again; an older one serves while the archive is out of
    reach. InfraError if nothing can be had, UserError if there is no such package.
    """
    earlier = recall(cache, spec)
    if earlier and earlier[1] < fresh_s:
        return earlier[0]
    with cache.lock("debian", deadline, progress.note):
        earlier = recall(cache, spec)
        if earlier and earlier[1] < fresh_s:
            return earlier[0]
        if codename is None:
            codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "sid")
        try:
            with progress.step(f"finding {spec}"):
                choice = _choose(spec, cache, progress, deadline, read_sources(etc), codename)
        except InfraError as error:
            if earlier is None:
                raise
            progress.note(f"{error.message}; going on with {earlier[0].description} from the cache")
            return earlier[0]
        tree = _obtain(choice, cache, progress, deadline)
        remember(cache, spec, tree)
    return tree


def _choose(
    spec: DebianSpec,
    cache: Cache,
    progress: Progress,
    deadline: Deadline,
    sources: Sequence[Source],
    codename: str,
) -> _Choice:
    home = mirror(sources, codename)
    if home is None:
        raise InfraError(
            f"the system's apt has no source that serves Debian {codename}",
            hint="see /etc/apt/sources.list.d",
        )

    def sister(suite: str) -> list[Source]:
        return [Source(home.uris, (suite,), ("main",), home.options)]

    configured = archive_sources(sources, codename)
    if spec.suite:
        order = [(spec.suite, sister(spec.suite), spec.package)]
    elif spec.package:
        order = [("configured", configured, spec.package), (BACKPORTS, sister(BACKPORTS), spec.package)]
    else:
        order = [(BACKPORTS, sister(BACKPORTS), None), ("configured", configured, FALLBACK_PACKAGE)]
    failures: list[str] = []
    for name, used, package in order:
        apt = PrivateApt.create(cache.folder("apt", name), used, deadline)
        complaint = apt.update(deadline)
        if complaint:
            failures.append(f"{_named(name)} cannot be had ({complaint})")
            continue
        found = package or apt.newest(_PACKAGE, deadline)
        fields = apt.show(found, deadline) if found else None
        if found and fields:
            if failures and not spec.package:
                progress.note(f"{failures[0]}: using {found} {fields['Version']}")
            return _Choice(apt, found, fields)
        failures.append(f"{_named(name)} has no {package or 'linux-source package'}")
    if all("has no" in failure for failure in failures):
        raise UserError("; ".join(failures), hint="`apt-cache search linux-source` names what there is")
    raise InfraError("; ".join(failures), hint="is the mirror of the system's apt reachable?")


def _named(name: str) -> str:
    return "the system's own suites" if name == "configured" else name


def _obtain(choice: _Choice, cache: Cache, progress: Progress, deadline: Deadline) -> KernelTree:
    version, sha256 = choice.fields["Version"], choice.fields["SHA256"]
    safe = re.sub(r"[^A-Za-z0-9.]", "-", version)
    ident = f"debian-{safe}-{sha256[:12]}"
    target = cache.root / "trees" / ident
    description = f"Debian {choice.package} {version}"
    if not cache.has(target):
        with progress.step(f"downloading {choice.package} {version}") as step:
            size = int(choice.fields.get("Size", "0")) // 1000000
            deb = choice.apt.download(
                choice.package,
                version,
                deadline,
                lambda percent: step.update("MB", size * percent // 100, size),
            )
            found = sha256_file(deb)
            if found != sha256:
                deb.unlink()
                raise InfraError(
                    f"{deb.name} has SHA-256 {found}, the archive's list says {sha256}", hint="run it again"
                )
        with progress.step(f"unpacking {description}"), cache.making(target) as draft:
            _unpack_deb(deb, draft, deadline)
        deb.unlink()
    return KernelTree(target, kernel_version(target), ident, description, ident)


def _unpack_deb(deb: Path, draft: Path, deadline: Deadline) -> None:
    """Turn a linux-source package into the kernel tree `draft`."""
    inner = draft / ".package"
    run(["dpkg-deb", "-x", str(deb), str(inner)], deadline=deadline)
    archive = next(inner.glob("usr/src/linux-source-*.tar.*"), None)
    if archive is None:
        raise InfraError(
            f"{deb.name} holds no usr/src/linux-source-*.tar.*", hint="is it a linux-source package?"
        )
    outer = draft / ".source"
    outer.mkdir()
    unpack(archive, outer, deadline)
    for entry in source_top(outer).iterdir():
        entry.rename(draft / entry.name)
    shutil.rmtree(inner)
    shutil.rmtree(outer)
