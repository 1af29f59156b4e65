# SPDX-License-Identifier: GPL-2.0-only
"""The system's apt sources, read; and an apt of our own that leaves the system's state alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.deadline import Deadline
from harness.disk import disk_errors
from harness.errors import InfraError
from harness.process import Completed, run

#: sources.list(5): option in brackets -> field of the deb822 format, where the names differ.
_OPTION_FIELDS = {"arch": "Architectures", "lang": "Languages", "target": "Targets", "signed-by": "Signed-By"}
#: Fields that we decide ourselves.
_OWN_FIELDS = {"types", "uris", "suites", "components", "enabled", "architectures", "languages", "targets"}


@dataclass(frozen=True)
class Source:
    """One apt source. options: all further fields, as written (a Signed-By may be a key of many lines)."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    options: tuple[tuple[str, str], ...] = ()

    def stanza(self) -> str:
        """The source in the deb822 format."""
        lines = [
            "Types: deb",
            f"URIs: {' '.join(self.uris)}",
            f"Suites: {' '.join(self.suites)}",
        ]
        if self.components:
            lines.append(f"Components: {' '.join(self.components)}")
        lines += [f"{key}: {value}" for key, value in self.options if key.lower() not in _OWN_FIELDS]
        return "\n".join(lines) + "\n"


def read_sources(etc: Path) -> list[Source]:
    """All binary-package sources of an `/etc/apt`, both formats, in apt's order; disabled ones left out."""
    found: list[Source] = []
    files = [etc / "sources.list"]
    parts = etc / "sources.list.d"
    if parts.is_dir():
        files += sorted(parts.iterdir())
    for file in files:
        if not file.is_file():
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        if file.suffix == ".list":
            found += [source for line in text.splitlines() if (source := _one_line(line))]
        elif file.suffix == ".sources":
            found += [source for block in _blocks(text) if (source := _deb822(block))]
    return found


def _one_line(line: str) -> Source | None:
    match = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s*([^#]*)", line)
    if match is None:
        return None
    options = tuple(
        (field, value.replace(",", " "))
        for key, _, value in (word.partition("=") for word in (match[1] or "").split())
        if value and (field := _OPTION_FIELDS.get(key.lower(), key.title())).lower() not in _OWN_FIELDS
    )
    return Source((match[2],), (match[3],), tuple(match[4].split()), options)


def _blocks(text: str) -> list[dict[str, str]]:
    """The stanzas of a deb822 file as field -> value; continuation lines keep their line breaks."""
    blocks: list[dict[str, str]] = [{}]
    key = ""
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        if not line.strip():
            blocks.append({})
            key = ""
        elif line[0] in " \t" and key:
            blocks[-1][key] += "\n" + line
        elif ":" in line:
            key, _, value = line.partition(":")
            key = key.strip()
            blocks[-1][key] = value.strip()
    return [block for block in blocks if block]


def _deb822(block: Mapping[str, str]) -> Source | None:
    low = {key.lower(): value for key, value in block.items()}
    if "deb" not in low.get("types", "").split() or low.get("enabled", "yes").lower() in ("no", "false", "0"):
        return None
    options = tuple((key, value) for key, value in block.items() if key.lower() not in _OWN_FIELDS)
    return Source(
        tuple(low.get("uris", "").split()),
        tuple(low.get("suites", "").split()),
        tuple(low.get("components", "").split()),
        options,
    )


def archive_sources(sources: Sequence[Source], codename: str) -> list[Source]:
    """The sources that serve the Debian release `codename`, its security and updates too; main only."""
    aliases = {codename, "stable", "oldstable", "testing", "unstable", "sid"}
    kept: list[Source] = []
    for source in sources:
        suites = tuple(suite for suite in source.suites if re.split(r"[-/]", suite)[0] in aliases)
        if suites and "main" in source.components:
            kept.append(replace(source, suites=suites, components=("main",)))
    return kept


def mirror(sources: Sequence[Source], codename: str) -> Source | None:
    """The source that serves the release itself: the mirror that has its sister suites as well."""
    for wanted in ({codename}, {"stable", "oldstable", "testing", "unstable", "sid"}):
        for source in sources:
            if wanted & set(source.suites) and "main" in source.components:
                return source
    return None


@dataclass(frozen=True)
class PrivateApt:
    """An apt whose lists, archives and configuration live in `folder`; works as any user."""

    folder: Path

    @classmethod
    def create(cls, folder: Path, sources: Sequence[Source], deadline: Deadline) -> PrivateApt:
        """Set the folder up for the given sources.

        Of the system's configuration only `Acquire` (proxies, timeouts) is taken over, because hooks such as
        APT::Update::Post-Invoke act on the system's state.
        """
        argv = ["apt-config", "dump", "--format", '%F "%v";%n']
        dump = run(argv, deadline=deadline, merge_stderr=False).output
        kept = [
            line
            for line in dump.splitlines()
            if line.startswith("Acquire::")
            and not line.startswith(("Acquire::IndexTargets", "Acquire::Languages"))
        ]
        native = next((line for line in dump.splitlines() if line.startswith("APT::Architecture ")), "")
        if native:
            kept.append(native.replace("APT::Architecture ", "APT::Architectures:: "))
        own = {
            "Dir::State": str(folder),
            "Dir::State::lists": str(folder / "lists"),
            "Dir::State::status": str(folder / "status"),
            "Dir::Cache": str(folder),
            "Dir::Cache::archives": str(folder / "archives"),
            "Dir::Etc::main": "-",
            "Dir::Etc::parts": "-",
            "Dir::Etc::sourcelist": "-",
            "Dir::Etc::sourceparts": str(folder / "sources.list.d"),
            "Dir::Etc::preferences": "-",
            "Dir::Etc::preferencesparts": "-",
            "APT::Sandbox::User": "root",
            "APT::Update::Error-Mode": "any",
            "Acquire::Languages": "none",
            "Acquire::Retries": "2",
        }
        lines = [*kept, *(f'{key} "{value}";' for key, value in own.items())]
        with disk_errors(folder):
            for part in ("lists/partial", "archives/partial", "sources.list.d"):
                (folder / part).mkdir(parents=True, exist_ok=True)
            (folder / "status").touch()
            (folder / "sources.list.d" / "harness.sources").write_text(
                "\n".join(source.stanza() for source in sources), encoding="utf-8"
            )
            (folder / "apt.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return cls(folder)

    @property
    def _env(self) -> dict[str, str]:
        return {"APT_CONFIG": str(self.folder / "apt.conf"), "LC_ALL": "C"}

    def update(self, deadline: Deadline) -> str:
        """Fetch and verify the package lists; what went wrong, in one line, or an empty string."""
        done = run(
            [
                "apt-get",
                "update",
                "-q",
                "-o",
                "Acquire::http::Timeout=20",
                "-o",
                "Acquire::https::Timeout=20",
            ],
            deadline=deadline,
            env=self._env,
            check=False,
        )
        return "" if done.ok else _complaint(done)

    def newest(self, pattern: str, deadline: Deadline) -> str | None:
        """The package name with the highest numbers in it among those matching a regular expression."""
        argv = ["apt-cache", "pkgnames", "linux-source-"]
        done = run(argv, deadline=deadline, env=self._env, merge_stderr=False)
        names = [name for name in done.output.split() if re.fullmatch(pattern, name)]
        return max(names, key=lambda name: [int(n) for n in re.findall(r"\d+", name)], default=None)

    def show(self, package: str, deadline: Deadline) -> dict[str, str] | None:
        """The fields of a package's newest version (Version, SHA256, Size ...); None if there is no such."""
        argv = ["apt-cache", "show", "--no-all-versions", package]
        done = run(argv, deadline=deadline, env=self._env, check=False, merge_stderr=False)
        blocks = _blocks(done.output) if done.ok else []
        return blocks[0] if blocks and "SHA256" in blocks[0] else None

    def download(
        self, package: str, version: str, deadline: Deadline, on_percent: Callable[[int], None]
    ) -> Path:
        """Download a package; apt verifies it, and goes on with a partial file.

        The file's path. InfraError if it cannot be had.
        """

        def line(text: str) -> None:
            match = re.match(r"dlstatus:\d+:(\d+)", text)
            if match:
                on_percent(int(match[1]))

        archives = self.folder / "archives"
        done = run(
            ["apt-get", "download", "-q", "-o", "APT::Status-Fd=1", f"{package}={version}"],
            cwd=archives,
            deadline=deadline,
            env=self._env,
            on_line=line,
            check=False,
        )
        # In the file's name apt writes the colon of an epoch as in a URL.
        file = next(archives.glob(f"{package}_{version.replace(':', '%3a')}_*.deb"), None)
        if not done.ok or file is None:
            raise InfraError(
                f"{package} {version} cannot be downloaded: {_complaint(done)}",
                hint="is the mirror reachable?",
            )
        return file

    def download_all(self, packages: Sequence[str], deadline: Deadline) -> list[Path]:
        """Download packages and all that they depend on, as for a system that has nothing yet.

        All packages that the folder then has, none of them of an older version. InfraError if they cannot be
        had.
        """
        fetch = ["install", "-y", "--no-install-recommends", "--download-only", *packages]
        for words in (["autoclean"], fetch):
            done = run(["apt-get", "-q", *words], deadline=deadline, env=self._env, check=False)
            if not done.ok:
                raise InfraError(
                    f"{', '.join(packages)} cannot be downloaded: {_complaint(done)}",
                    hint="is the mirror reachable?",
                )
        return sorted((self.folder / "archives").glob("*.deb"))


def _complaint(done: Completed) -> str:
    lines = [line for line in done.output.splitlines() if line.startswith(("E:", "W:"))]
    return (lines or done.output.strip().splitlines() or [f"status {done.status}"])[0]
