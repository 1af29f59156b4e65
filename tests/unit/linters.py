# SPDX-License-Identifier: GPL-2.0-only
"""The linters, at work beside the other tests: one after the other, on a CPU that is idle then."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(sys.executable).parent
_SCRIPTS = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("ci/*/*.py"))
_SCHEMAS = [str(TOOLS / "check-jsonschema"), "--builtin-schema"]

#: By the test file that wants to know: names, and commands at the top of the repository.
LINTERS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "test_quality.py": {
        "mypy": [sys.executable, "-m", "mypy"],
        "mypy-ci": [sys.executable, "-m", "mypy", "--strict", *_SCRIPTS],
        "ruff-check": [sys.executable, "-m", "ruff", "check", "harness", "tests", "ci"],
        "ruff-format": [sys.executable, "-m", "ruff", "format", "--check", "harness", "tests", "ci"],
    },
    "test_ci_files.py": {
        "github": [*_SCHEMAS, "vendor.github-workflows", "ci/github.yml"],
        "gitlab": [*_SCHEMAS, "vendor.gitlab-ci", "--data-transform", "gitlab-ci", "ci/gitlab-ci.yml"],
        "container": [str(TOOLS / "hadolint"), "ci/Containerfile"],
        "systemd": [
            "systemd-analyze",
            "verify",
            "ci/systemd/hmm-nightly.service",
            "ci/systemd/hmm-nightly.timer",
        ],
    },
}

Done = subprocess.CompletedProcess[str]


class Linters:
    """Begins at once; `result` waits for one. What is not installed has no result."""

    def __init__(self, commands: Mapping[str, Sequence[str]]) -> None:
        self._commands = {name: argv for name, argv in commands.items() if shutil.which(argv[0])}
        self._results: dict[str, Future[Done]] = {name: Future() for name in self._commands}
        self._running: subprocess.Popen[str] | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._worker = threading.Thread(target=self._work, name="linters", daemon=True)
        self._worker.start()

    def result(self, name: str) -> Done | None:
        """What a linter said, once it has ended; None: it is not installed."""
        return self._results[name].result() if name in self._results else None

    def close(self) -> None:
        """End what runs, and begin no more."""
        with self._lock:
            self._closed = True
            if self._running:
                self._running.kill()
        self._worker.join()

    def _work(self) -> None:
        pipe = subprocess.PIPE
        for name, argv in self._commands.items():
            with self._lock:
                if self._closed:
                    return
                self._running = subprocess.Popen(argv, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)
            out, err = self._running.communicate()
            self._results[name].set_result(Done(argv, self._running.returncode, out, err))
