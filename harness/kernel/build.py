# SPDX-License-Identifier: GPL-2.0-only
"""Kernels built once per content: tree, patched files, resolved configuration, compiler."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.cache import Cache, digest
from harness.deadline import Deadline
from harness.disk import disk_errors, write_atomically
from harness.errors import InfraError
from harness.kernel.apply import PatchStack, apply_patches
from harness.kernel.kconfig import merge, resolve
from harness.kernel.make import Toolchain, make_argv, make_env, run_make, toolchain
from harness.kernel.product import BuildRequest, KernelBuild, PatchRecord, build_host
from harness.kernel.workspace import SourceFolder, Workspace, building
from harness.process import command_line, run
from harness.progress import Progress, Step

__all__ = [
    "BuildRequest",
    "KernelBuild",
    "PatchRecord",
    "build_host",
    "build_kernel",
    "resolved_config",
    "workspace_at",
]

#: Part of every key: a change here makes all stored builds unknown.
_SCHEMA = "1"
_TARGETS = ("bzImage", "modules")
#: Trees of one origin whose configuration is remembered for the next one, the latest first.
_RELATIVES = 4
#: In an object folder: the key of the kernel that modules can be built against there.
_PREPARED = ".harness-prepared"


def build_kernel(request: BuildRequest, cache: Cache, progress: Progress, deadline: Deadline) -> KernelBuild:
    """The kernel that is wanted, from the cache or built.

    UserError: a patch or a setting that does not take. BuildError: the source does not compile. InfraError:
    disk, tools, deadline. A build that is stopped leaves its objects, and the next one goes on from there.
    """
    job = _Job(request, cache, progress, deadline)
    config = job.known_config()
    if config is not None:
        stored = job.stored(config)
        if stored:
            return stored
    with job.source.locked(deadline, progress.note):
        config = job.config()
        # Another harness may have built it while this one waited.
        return job.stored(config) or job.build(config)


def resolved_config(request: BuildRequest, cache: Cache, progress: Progress, deadline: Deadline) -> str:
    """The .config that a kernel would be built with. UserError: a patch or a setting that does not take."""
    job = _Job(request, cache, progress, deadline)
    known = job.known_config()
    if known is not None:
        return known
    with job.source.locked(deadline, progress.note):
        return job.config()


@contextlib.contextmanager
def workspace_at(
    request: BuildRequest, cache: Cache, progress: Progress, deadline: Deadline
) -> Iterator[Workspace]:
    """The workspace in the state of a kernel, ready for external modules; locked until the block is left.

    The kernel is built first if it is not in the cache. The objects need not be of this kernel, but headers,
    tools and Module.symvers are.
    """
    build = build_kernel(request, cache, progress, deadline)
    job = _Job(request, cache, progress, deadline)
    with job.source.locked(deadline, progress.note):
        yield job.prepare(build)


class _Job:
    """One request on its way through the workspace."""

    def __init__(self, request: BuildRequest, cache: Cache, progress: Progress, deadline: Deadline) -> None:
        self.request = request
        self.cache = cache
        self.progress = progress
        self.deadline = deadline
        self.tools: Toolchain = toolchain()
        self.stack: PatchStack = apply_patches(request.tree, request.patches)
        self.settings = merge(request.fragments, request.extra)
        self.source = SourceFolder(cache, request.tree)

    # Configuration

    def _config_file(self, ident: str) -> Path:
        """Where the configuration is kept that this request has in the tree of an identity."""
        changed = [
            f"{path} {_sum(content)}"
            for path, content in sorted(self.stack.files.items())
            if _is_config(path)
        ]
        wanted = sorted(setting.line for setting in self.settings)
        parts = [_SCHEMA, ident, self.tools.compiler, self.tools.arch]
        base = [self.request.base_config] if self.request.base_config else []
        name = digest([*parts, str(len(changed)), *changed, *wanted, *base])[:32]
        return self.cache.folder("configs") / f"{name}.config"

    def known_config(self) -> str | None:
        """The resolved configuration if it is known without looking at the source."""
        return self._stored_config(self.request.tree.ident)

    def _stored_config(self, ident: str) -> str | None:
        with contextlib.suppress(FileNotFoundError):
            return self._config_file(ident).read_text(encoding="utf-8")
        return None

    def config(self) -> str:
        """The resolved and verified configuration. Under the workspace's lock."""
        ident = self.request.tree.ident
        config = self._stored_config(ident)
        if config is None:
            config = self._relatives_config() or self._resolve()
            write_atomically(self._config_file(ident), config.encode())
        if self.request.tree.changes_since:
            latest = [ident, *(other for other in self._relatives() if other != ident)][:_RELATIVES]
            write_atomically(self._relatives_file(), json.dumps(latest).encode())
        return config

    def _relatives_file(self) -> Path:
        return self.source.folder / "configured.json"

    def _relatives(self) -> list[str]:
        try:
            return [str(ident) for ident in json.loads(self._relatives_file().read_text(encoding="utf-8"))]
        except (FileNotFoundError, ValueError, TypeError):
            return []

    def _relatives_config(self) -> str | None:
        """The configuration of a tree from which this one differs in nothing that could change it."""
        since = self.request.tree.changes_since
        for ident in self._relatives() if since else ():
            config = self._stored_config(ident)
            changed = since(ident) if since and config is not None else None
            if changed is not None and not any(_is_config(path) for path in changed):
                return config
        return None

    def _resolve(self) -> str:
        with self.progress.step("configuring the kernel") as step:
            step.update("preparing the source")
            self.source.bring_to(self.stack.files, self.deadline)
            step.update("olddefconfig" if self.request.base_config else "tinyconfig, fragments, olddefconfig")
            log = self._log("config")
            scratch = self.cache.folder("workspaces", self.source.name, "kconfig")

            def make(target: str) -> None:
                self._make(self._argv(scratch, target), make_env(), log, scratch)

            base = self.request.base_config
            return resolve(self.source.src, scratch, self.settings, self.tools.srcarch, make, base)

    def _log(self, name: str) -> Path:
        log = self.cache.folder("workspaces", self.source.name, "logs") / f"{name}.log"
        with disk_errors(log):
            log.unlink(missing_ok=True)
        return log

    # Keys and what is stored

    def key(self, config: str) -> str:
        changed = [f"{path} {_sum(content)}" for path, content in sorted(self.stack.files.items())]
        parts = [_SCHEMA, self.request.tree.ident, self.tools.compiler, self.tools.arch, config]
        return digest([*parts, *_TARGETS, *changed])

    def stored(self, config: str) -> KernelBuild | None:
        """The build of a configuration, if it is in the cache."""
        key = self.key(config)
        folder = self.cache.root / "builds" / key[:32]
        try:
            facts = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
            self.cache.has(folder)
            return self._result(key, folder, config, facts, cached=True)
        except (FileNotFoundError, ValueError, KeyError):
            return None

    def _result(
        self, key: str, folder: Path, config: str, facts: Mapping[str, Any], *, cached: bool
    ) -> KernelBuild:
        # How the content came about is the request's to say: another one may have made the same.
        return KernelBuild(
            key=key,
            folder=folder,
            release=facts["release"],
            tree=self.request.tree.description,
            tree_ident=self.request.tree.ident,
            commit=self.request.tree.commit,
            version=self.request.tree.version,
            patches=tuple(PatchRecord.of(applied) for applied in self.stack.patches),
            config_sha256=hashlib.sha256(config.encode()).hexdigest(),
            compiler=facts["compiler"],
            command=facts["command"],
            seconds=float(facts["seconds"]),
            cached=cached,
        )

    # Building

    def build(self, config: str) -> KernelBuild:
        """Build and store. Under the workspace's lock."""
        started = time.monotonic()
        key = self.key(config)
        obj = self._at(config)
        log = self._log(key[:32])
        argv = self._argv(obj, *_TARGETS)
        env = make_env(build_host(key))
        with self.progress.step(f"building {self.request.tree.description}") as step:
            count = _Count(self.cache, obj, step)
            self._make(argv, env, log, obj, count.file)
            count.keep()
            target = self.cache.root / "builds" / key[:32]
            step.update("storing the build")
            with self.cache.making(target) as draft:
                self._store(obj, draft, log)
                _mark_prepared(obj, key)
                facts = {
                    "schema": 1,
                    "key": key,
                    "release": (obj / "include/config/kernel.release").read_text(encoding="utf-8").strip(),
                    "tree": self.request.tree.description,
                    "tree_ident": self.request.tree.ident,
                    "version": self.request.tree.version,
                    "patches": [vars(PatchRecord.of(applied)) for applied in self.stack.patches],
                    "changed_files": {
                        path: _sum(content) for path, content in sorted(self.stack.files.items())
                    },
                    "config_sha256": hashlib.sha256(config.encode()).hexdigest(),
                    "compiler": self.tools.compiler,
                    "command": command_line(argv, env),
                    "seconds": round(time.monotonic() - started, 3),
                }
                (draft / "metadata.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        return self._result(key, target, config, facts, cached=False)

    def _at(self, config: str) -> Path:
        """Bring source and configuration to this arm; the object folder."""
        self.source.bring_to(self.stack.files, self.deadline)
        obj = self._objects(config)
        current = obj / ".config"
        if not current.is_file() or current.read_text(encoding="utf-8") != config:
            write_atomically(current, config.encode())
        return obj

    def _objects(self, config: str) -> Path:
        """The object folder for a configuration; of the kernels that follow one another, the nearest one's.

        kbuild compiles what a changed symbol touches; one folder each would mean compiling all.
        """
        near: list[tuple[int, Path]] = []
        if self.request.follows:
            lines = set(config.splitlines())
            for other in self.source.folder.glob("obj-*/.config"):
                theirs = other.read_text(encoding="utf-8")
                if _compiler_of(theirs) == _compiler_of(config):
                    near.append((len(lines ^ set(theirs.splitlines())), other.parent))
        return min(near)[1] if near else self.source.obj(config, self.tools.compiler)

    def _argv(self, obj: Path, *targets: str) -> list[str]:
        return make_argv(self.source.src, obj, targets, self.tools, self.request.jobs)

    def _make(
        self,
        argv: list[str],
        env: Mapping[str, str],
        log: Path,
        obj: Path,
        on_file: Callable[[str], None] | None = None,
    ) -> None:
        with building(obj):
            (obj / _PREPARED).unlink(missing_ok=True)
            try:
                run_make(argv, env, self.source.make_lock, log, self.deadline, on_file)
            finally:
                self.source.stamp()

    def _store(self, obj: Path, draft: Path, log: Path) -> None:
        for source, name in (
            ("arch/x86/boot/bzImage", "bzImage"),
            ("vmlinux", "vmlinux"),
            ("System.map", "System.map"),
            ("Module.symvers", "Module.symvers"),
            (".config", "config"),
        ):
            if not (obj / source).is_file():
                raise InfraError(f"make ended well, but {obj / source} is not there", hint=f"see {log}")
            shutil.copyfile(obj / source, draft / name)
        strip = self.tools.program("strip")
        run(
            [strip, "--strip-all", "-o", str(draft / "vmlinux.boot"), str(obj / "vmlinux")],
            deadline=self.deadline,
        )
        (draft / "modules").mkdir()
        order = obj / "modules.order"
        if order.is_file() and order.read_text(encoding="utf-8").strip():
            argv = [*self._argv(obj, "modules_install"), f"INSTALL_MOD_PATH={draft / 'modules'}"]
            self._make(argv, make_env(), log, obj)
        shutil.copyfile(log, draft / "build.log")

    def prepare(self, build: KernelBuild) -> Workspace:
        """The workspace at a finished build, with what external modules need."""
        config = build.config.read_text(encoding="utf-8")
        obj = self._at(config)
        # What has just been built is prepared: make would need most of a second to find nothing to do.
        if not _is_prepared(obj, build.key):
            with self.progress.step("preparing to build modules") as step:
                argv = self._argv(obj, "modules_prepare")
                self._make(argv, make_env(build.build_host), self._log("prepare"), obj, step.update)
            _mark_prepared(obj, build.key)
        symbols = build.module_symvers.read_bytes()
        current = obj / "Module.symvers"
        if not current.is_file() or current.read_bytes() != symbols:
            write_atomically(current, symbols)
        return Workspace(self.source.src, obj)


class _Count:
    """How many files a build compiles and how long it takes, against the last one like it."""

    def __init__(self, cache: Cache, obj: Path, step: Step) -> None:
        kind = "incremental" if (obj / "vmlinux").exists() else "cold"
        folder = cache.folder("counts")
        self._files = (folder / f"{obj.parent.name}-{obj.name}-{kind}", folder / f"any-{kind}")
        self._step = step
        self._begin = time.monotonic()
        self._done = 0
        self._total = 0
        for file in self._files:
            with contextlib.suppress(OSError, ValueError):
                total, *seconds = file.read_text(encoding="utf-8").split()
                self._total = int(total)
                if seconds:
                    step.update(f"the last one like it took {seconds[0]} s", 0, self._total)
                break

    def file(self, what: str) -> None:
        self._done += 1
        # A build that has outgrown the last one like it has no known size.
        self._step.update(what, self._done, self._total if self._done <= self._total else 0)

    def keep(self) -> None:
        for file in self._files:
            write_atomically(file, f"{self._done} {time.monotonic() - self._begin:.0f}\n".encode())


def _mark_prepared(obj: Path, key: str) -> None:
    write_atomically(obj / _PREPARED, key.encode())


def _is_prepared(obj: Path, key: str) -> bool:
    try:
        return (obj / _PREPARED).read_text(encoding="utf-8") == key
    except FileNotFoundError:
        return False


def _compiler_of(config: str) -> str:
    found = re.search(r"^CONFIG_CC_VERSION_TEXT=.*$", config, re.M)
    return found[0] if found else ""


def _sum(content: bytes | None) -> str:
    return hashlib.sha256(content).hexdigest() if content is not None else "absent"


def _is_config(path: str) -> bool:
    """True if a file can change how a configuration is resolved."""
    name = path.rpartition("/")[2]
    return name.startswith(("Kconfig", "Makefile")) or path.startswith("scripts/") or "configs/" in path
