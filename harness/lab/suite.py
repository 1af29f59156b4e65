# SPDX-License-Identifier: GPL-2.0-only
"""An experiment as tests: FILE::SCENARIO::ARM[TRIAL], and FILE::SCENARIO::verdict over all of them."""

from __future__ import annotations

import contextlib
import time
from argparse import Namespace
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.arguments import experiment_from, experiment_named
from harness.config import Experiment, builtin_experiments
from harness.display import PLAIN_INTERVAL_S, QuietProgress
from harness.errors import HarnessError, InfraError
from harness.experiment.compare import alternate
from harness.experiment.stage import check_target
from harness.experiment.statistics import VerdictKind
from harness.lab.bench import Bench, Run
from harness.lab.outcomes import check, properties
from harness.process import command_line
from harness.progress import Step
from harness.scenario.catalogue import scenario_values
from harness.watch.kinds import OutcomeKind


class Suite:
    """The plugin of a session with --hmm-config."""

    def __init__(self, file: Path, bench: Bench, experiments: Iterable[Experiment]) -> None:
        self.file = file
        self.bench = bench
        self.runs = [Run(bench, experiment) for experiment in experiments]

    @classmethod
    def of(cls, config: pytest.Config) -> Suite:
        """As the options have it. UsageError for whatever is wrong with them or the file."""
        named = str(config.getoption("hmm_config"))
        known = builtin_experiments()
        file = (known[named] if named in known else config.invocation_params.dir / named).resolve()
        try:
            base = experiment_named(named if named in known else str(file))
            target = config.getoption("hmm_target")
            if target == "qemu":
                base = base.model_copy(update={"target": ""})
            elif target:
                base = experiment_from(Namespace(target=config.invocation_params.dir / target), base)
            check_target(base)
            chosen = config.getoption("hmm_scenario") or [base.scenario]
            experiments = [experiment_from(Namespace(scenario=name), base) for name in dict.fromkeys(chosen)]
            for experiment in experiments:
                scenario_values(experiment)
        except HarnessError as error:
            raise pytest.UsageError("\n".join(filter(None, [error.message, error.hint]))) from error
        out = config.invocation_params.dir / config.getoption("hmm_out")
        again = command_line(["pytest", *map(str, config.invocation_params.args)])
        display = _Lines(config)
        suite = cls(file, Bench(str(file), base, out, again, display), experiments)
        if config.args_source is not pytest.Config.ArgsSource.ARGS and not any(
            file.is_relative_to(Path(arg).resolve()) for arg in config.args
        ):
            config.args.append(str(file))
        return suite

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        """The experiment's file, wherever it is come across."""
        if file_path != self.file:
            return None
        node: pytest.Collector = _File.from_parent(parent, path=file_path, runs=self.runs)
        return node

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Kernels are built outside of what pytest-timeout guards: hours may pass."""
        if isinstance(item, _Item):
            item.prepare()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """What says nothing of a kernel is an error, whoever met it; a control without the bug is marked."""
        report = yield
        error = call.excinfo.value if call.excinfo else None
        if isinstance(error, HarnessError):
            report.when = "setup"  # what fails there is no failure of the test, but an error
            report.longrepr = _text(error)
        if isinstance(item, _Trial) and item.silent and call.when == "call":
            report.wasxfail = "the control did not show the bug"
        return report

    def pytest_sessionfinish(self) -> None:
        """A run without a verdict is left as one that was interrupted."""
        for run in self.runs:
            run.close(KeyboardInterrupt())
        self.bench.close()


class _File(pytest.File):
    def __init__(self, *, runs: list[Run], **rest: Any) -> None:
        super().__init__(**rest)
        self._runs = runs

    def collect(self) -> Iterator[pytest.Collector]:
        for run in self._runs:
            yield _Scenario.from_parent(self, name=run.experiment.scenario, run=run)


class _Scenario(pytest.Collector):
    def __init__(self, *, run: Run, **rest: Any) -> None:
        super().__init__(**rest)
        self._run = run

    def collect(self) -> Iterator[pytest.Item]:
        for index, arm in alternate(self._run.experiment):
            yield _Trial.from_parent(self, name=f"{arm}[{index}]", run=self._run, arm=arm, index=index)
        yield _Verdict.from_parent(self, name="verdict", run=self._run)


class _Item(pytest.Item):
    """A test of the suite."""

    #: Plugins ask every test for them (labgrid's does, before each).
    fixturenames: tuple[str, ...] = ()

    def __init__(self, *, run: Run, **rest: Any) -> None:
        super().__init__(**rest)
        self.run = run
        self._unbuilt: HarnessError | None = None
        self.add_marker("hmm")

    def prepare(self) -> None:
        """Whatever takes long."""

    def setup(self) -> None:
        if self._unbuilt:
            raise self._unbuilt

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, f"{self.run.experiment.scenario}::{self.name}"

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The kernel's words; where this program called what means nothing to who reads them."""
        if isinstance(excinfo.value, HarnessError):
            return _text(excinfo.value)
        return super().repr_failure(excinfo, style)


class _Trial(_Item):
    def __init__(self, *, arm: str, index: int, **rest: Any) -> None:
        super().__init__(**rest)
        self._arm, self._index = arm, index
        self._control = self.run.experiment.arms[arm].role == "control"
        #: A trial of the control in which the bug did not show.
        self.silent = False

    def prepare(self) -> None:
        try:
            self.run.prepare(self._arm)
            guard_s = self.run.guard_s
        except HarnessError as error:
            self._unbuilt = error
        else:
            plugins = self.config.pluginmanager
            if plugins.hasplugin("timeout") or plugins.hasplugin("pytest_timeout"):
                self.add_marker(pytest.mark.timeout(guard_s))

    def runtest(self) -> None:
        if self.run.stands:
            pytest.skip("the verdict stands already")
        try:
            result = self.run.trial(self._arm, self._index)
        except pytest.fail.Exception as late:  # only pytest-timeout raises that in here
            raise InfraError(f"ended from outside: {late.msg}") from late
        self.user_properties += properties(result, self.run.folder)
        self.silent = self._control and result.kind is OutcomeKind.COMPLETED
        check(result, control=self._control, folder=self.run.folder)


class _Verdict(_Item):
    def runtest(self) -> None:
        if self.run.missing:
            total = 2 * self.run.experiment.trials
            pytest.skip(f"no verdict: {self.run.missing} of {total} trials have no result")
        done, text = self.run.verdict()
        self.user_properties += [("verdict", done.verdict.kind.value), ("folder", str(done.folder))]
        if done.verdict.kind is not VerdictKind.FIXED:
            pytest.fail(text, pytrace=False)


class _Lines(QuietProgress):
    """Phases as lines of pytest's own report: a build takes minutes, and a silent one looks like a hang."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def note(self, text: str) -> None:
        plugins = self._config.pluginmanager
        reporter, capture = plugins.getplugin("terminalreporter"), plugins.getplugin("capturemanager")
        if reporter is not None and self._config.get_verbosity() >= 0:
            with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
                reporter.ensure_newline()
                reporter.write_line(f"  {text}")

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        yield _Phase(self, title)


class _Phase:
    """A phase that is told of every so often: most are over before."""

    def __init__(self, lines: _Lines, title: str) -> None:
        self._lines, self._title = lines, title
        self._last = time.monotonic()

    def update(self, what: str, done: int = 0, total: int = 0) -> None:
        if time.monotonic() - self._last >= PLAIN_INTERVAL_S:
            self._last = time.monotonic()
            self._lines.note(f"{self._title}: {done}/{total} {what}" if total else f"{self._title}: {what}")


def _text(error: HarnessError) -> str:
    return "\n".join(filter(None, [error.message, error.hint and f"hint: {error.hint}"]))
