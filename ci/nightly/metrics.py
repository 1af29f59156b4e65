# SPDX-License-Identifier: GPL-2.0-only
"""The reference-count livelock and the lock hog as figures: three matrices, each as a section of tables.

Writes `reports/YYYY-mm-dd-metrics.md`. With files (`hmm-harness matrix NAME --json` of each) it runs nothing.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.disk import write_atomically
from harness.process import command_line
from harness.results.matrix import CellFacts, MatrixResult
from harness.watch.kinds import OutcomeKind

REPORTS = Path(__file__).resolve().parent / "reports"
PROGRAM = str(Path(sys.executable).parent / "hmm-harness")
#: Of refcount-livelock, by mutex and delay in us.
DRIVERS = {
    ("off", 0): "no mutex, no delay",
    ("off", 100): "no mutex, 100 us",
    ("on", 0): "mutex, no delay",
    ("on", 100): "mutex and 100 us",
}
FAULTERS = {"device": "hmm_range_fault()", "cpu": "a read by the CPU"}


def measured(name: str, out: Path) -> MatrixResult:
    """A matrix of the harness, run now. A fault of the machine ends the night."""
    argv = [PROGRAM, "matrix", name, "--json", "--out", str(out)]
    print(f"$ {command_line(argv)}", file=sys.stderr)
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(done.returncode)
    return MatrixResult.model_validate(json.loads(done.stdout))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def told(cell: CellFacts | None, words: Callable[[Mapping[str, float]], str]) -> str:
    """A cell in words: what was measured, and how those trials ended that are not behind the figures."""
    if cell is None or not cell.trials:
        return "-"
    figures = [words(cell.metrics)] if cell.metrics else []
    behind = (OutcomeKind.COMPLETED, OutcomeKind.STARVED) if figures else ()
    ended = (f"{count}/{cell.trials} {kind}" for kind, count in cell.outcomes.items() if kind not in behind)
    return ", ".join([*figures, *ended])


def refcount(done: MatrixResult) -> str:
    """Readers against what the driver does: faults for each page that came home, and the time that took."""
    parts = []
    for kernel in done.kernels:
        changes = ", ".join(kernel.patches) or "as shipped"
        for what, words in (
            ("calls for each page that came home", _faults),
            ("median time to success, ms", _time),
        ):
            parts += [f"{kernel.name} ({changes}), {what}:\n", _by_driver(done, kernel.name, words)]
    return "\n".join(parts)


def _by_driver(done: MatrixResult, kernel: str, words: Callable[[Mapping[str, float]], str]) -> str:
    mine = {
        (int(cell.set["threads"]), str(cell.set["mutex"]), int(cell.set["delay_us"])): cell
        for cell in done.cells
        if cell.kernel == kernel
    }
    rows = [
        [str(threads), *(told(mine.get((threads, *driver)), words) for driver in DRIVERS)]
        for threads in sorted({key[0] for key in mine})
    ]
    return table(["threads", *DRIVERS.values()], rows)


def _time(metrics: Mapping[str, float]) -> str:
    return f"{metrics['success_ms']:.0f}" if metrics["home_percent"] else "never"


def _faults(metrics: Mapping[str, float]) -> str:
    faults = f"{metrics['faults_per_migration']:.3g}"
    home = metrics["home_percent"]
    if home == 0:
        return f"{metrics['faults_per_migration']:.0f}, never home"
    return faults if home == 100 else f"{faults}, {home:.0f} % home"


def hog(done: MatrixResult) -> str:
    """Each duty cycle: how long a fault waited, median and worst, on each kernel."""
    parts = []
    for faulter, words in FAULTERS.items():
        mine = [cell for cell in done.cells if cell.set["faulter"] == faulter]
        cycles = sorted({(int(cell.set["on_us"]), int(cell.set["off_us"])) for cell in mine}, key=_duty)
        rows = []
        for on_us, off_us in cycles:
            row = [f"{on_us} / {off_us}"]
            for kernel in done.kernels:
                found = (
                    c
                    for c in mine
                    if (c.kernel, c.set["on_us"], c.set["off_us"]) == (kernel.name, on_us, off_us)
                )
                row.append(told(next(found, None), _waits))
            rows.append(row)
        parts.append(f"{words}: median and worst wait, ms (measured share of the time locked)\n")
        parts.append(table(["us locked / unlocked", *(kernel.name for kernel in done.kernels)], rows))
    return "\n".join(parts)


def hog_fixes(done: MatrixResult) -> str:
    """Each candidate fix: how long a fault waited at each duty cycle."""
    cells = {(cell.kernel, cell.label): cell for cell in done.cells}
    cycles = {cell.label: f"{cell.set['on_us']} / {cell.set['off_us']}" for cell in done.cells}
    rows = [
        [kernel.name, *(told(cells.get((kernel.name, cycle)), _waits) for cycle in cycles)]
        for kernel in done.kernels
    ]
    head = f"{FAULTERS['device']}: median and worst wait, ms (measured share of the time locked)"
    return f"{head}\n\n{table(['us locked / unlocked', *cycles.values()], rows)}"


def _duty(cycle: tuple[int, int]) -> tuple[float, int]:
    on_us, off_us = cycle
    return on_us / (on_us + off_us), on_us


def _waits(metrics: Mapping[str, float]) -> str:
    return f"{metrics['wait_ms']:.3g}, {metrics['wait_worst_ms']:.3g} ({metrics['duty_percent']:.0f} %)"


SECTIONS = {
    "refcount-livelock": ("Calls of migrate_to_ram for each page that came home", refcount),
    "lock-hog": ("How long a fault waits for a lock that is hogged", hog),
    "lock-hog-fixes": ("The same with each candidate fix", hog_fixes),
}


def section(title: str, name: str, done: MatrixResult, text: str) -> str:
    """A matrix with what it was measured on."""
    return f"## {title}\n\n{done.tree}; {done.guest}; `hmm-harness matrix {name}`\n\n{text}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--refcount", type=Path, help="what the matrix refcount-livelock printed")
    parser.add_argument("--hog", type=Path, help="what the matrix lock-hog printed")
    parser.add_argument("--hog-fixes", type=Path, help="what the matrix lock-hog-fixes printed")
    parser.add_argument("--out", type=Path, default=Path("runs/nightly"), help="where evidence goes")
    arguments = parser.parse_args()
    files = {
        "refcount-livelock": arguments.refcount,
        "lock-hog": arguments.hog,
        "lock-hog-fixes": arguments.hog_fixes,
    }
    results = {
        name: MatrixResult.model_validate_json(file.read_text(encoding="utf-8"))
        if file
        else measured(name, arguments.out)
        for name, file in files.items()
    }
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    parts = [f"# Figures of {day}\n"]
    for name, (title, words) in SECTIONS.items():
        parts.append(section(title, name, results[name], words(results[name])))
    text = "\n".join(parts)
    REPORTS.mkdir(exist_ok=True)
    write_atomically(REPORTS / f"{day}-metrics.md", text.encode())
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
