# SPDX-License-Identifier: GPL-2.0-only
"""What simulated bisections came to: tables in Markdown, a figure in SVG, and who was wrong too often."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from harness.experiment.statistics import Interval, clopper_pearson

#: One colour and marker a method, told apart without colour too.
STYLES = (("#b2182b", "o"), ("#e08214", "s"), ("#2166ac", "^"), ("#1b7837", "D"))


#: What bisections are grouped by: a rate, a number of candidates, a word.
Value = float | str


@dataclass(frozen=True)
class Row:
    """One bisection.

    declared: how often it may be wrong, if the method declares that here. hours: of builds and runs.
    """

    method: str
    declared: float | None
    false_rate: float
    history: str
    rate: float
    size: int
    skipped: float
    wrong: bool
    stopped: bool
    runs: int
    builds: int
    hours: float


@dataclass(frozen=True)
class Group:
    """Bisections of one kind, summed up.

    runs, builds, hours: means over the sizes of the history, each of which counts the same however many
    bisections there were.
    """

    bisections: int
    wrong: int
    stopped: int
    runs: float
    builds: float
    hours: float
    declared: float | None

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Group:
        """Sum up; there is at least one row."""
        return cls(
            len(rows),
            sum(row.wrong for row in rows),
            sum(row.stopped for row in rows),
            _mean(rows, lambda row: row.runs),
            _mean(rows, lambda row: row.builds),
            _mean(rows, lambda row: row.hours),
            rows[0].declared,
        )

    @property
    def share(self) -> float:
        """Share of wrong culprits."""
        return self.wrong / self.bisections

    @property
    def interval(self) -> Interval:
        """Exact 95 % interval of that share."""
        return clopper_pearson(self.wrong, self.bisections)


def _mean(rows: Sequence[Row], figure: Callable[[Row], float]) -> float:
    sizes = {row.size for row in rows}
    return fmean(fmean(figure(row) for row in rows if row.size == size) for size in sizes)


def groups(rows: Sequence[Row], key: Callable[[Row], Value]) -> dict[tuple[str, Value], Group]:
    """By method, in the order of the rows, and by what `key` says, in its order."""
    parts: dict[tuple[str, Value], list[Row]] = {}
    for row in rows:
        parts.setdefault((row.method, key(row)), []).append(row)
    methods = list(dict.fromkeys(row.method for row in rows))
    order = sorted(parts, key=lambda name: (methods.index(name[0]), name[1]))
    return {name: Group.of(parts[name]) for name in order}


KEYS: dict[str, Callable[[Row], Value]] = {
    "rate": lambda row: row.rate,
    "candidates": lambda row: row.size,
    "history": lambda row: row.history,
    "skipped": lambda row: row.skipped,
}


def too_wrong(rows: Sequence[Row]) -> list[str]:
    """Each group whose interval lies above what its method declares, in words."""
    found = []
    for title, key in KEYS.items():
        for false in (False, True):
            kept = [row for row in rows if bool(row.false_rate) == false]
            for (method, value), group in groups(kept, key).items():
                if group.declared is not None and group.interval.low > group.declared:
                    kind = ", with false reproductions" if false else ""
                    words = f"{group.wrong} of {group.bisections}, declared {group.declared:.3g}"
                    found.append(f"{method}, {title} {value}{kind}: {words}")
    return found


def write_tables(path: Path, rows: Sequence[Row], command: str, confidence: float) -> None:
    """All tables; the figure is named at the top."""
    true = [row for row in rows if not row.false_rate]
    false = [row for row in rows if row.false_rate]
    text = [
        "# Bisections without kernels",
        "",
        f"{datetime.date.today().isoformat()}, `{command}`. Confidence {confidence}.",
        "",
        "![Wrong culprits, runs and builds by rate](bisection.svg)",
        "",
        "Histories of 16 to 4096 candidates, linear and merged; 0, 5 or 20 % of them cannot be tested; the "
        "culprit may be any. *Wrong*: the culprit is not among those named, with the exact 95 % interval. "
        "*Stopped*: nobody was named, as the bad end did not show the bug in 100 runs or a good one did. "
        "*Runs*, *builds* (those that fail included) and *hours* (30 s a build, 2 s a run) are means in "
        "which every size counts the same. Of the largest histories `bayes` gets an eleventh, as it thinks "
        "longest there: its means rest on few of them (see candidates). `git bisect run` believes one run, "
        "`repeat 10 times` ten; neither tests the ends.",
        "",
    ]
    for title, key in KEYS.items():
        text += [f"## By {title}", "", *_table(title, groups(true, key)), ""]
    if false:
        text += [
            f"## With false reproductions: {false[0].false_rate:g} of the runs without the bug",
            "",
            "`classic` assumes that there are none, and declares nothing here.",
            "",
            *_table("rate", groups(false, KEYS["rate"])),
            "",
        ]
    text += ["## Wrong more often than declared", "", *([f"- {w}" for w in too_wrong(rows)] or ["None."]), ""]
    path.write_text("\n".join(text))


def _table(title: str, found: dict[tuple[str, Value], Group]) -> list[str]:
    heads = (
        "bisections",
        "wrong, %",
        "95 % interval",
        "declared, %",
        "stopped, %",
        "runs",
        "builds",
        "hours",
    )
    lines = [f"| method | {title} | {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) + 1)]
    for (method, value), group in found.items():
        low, high = 100 * group.interval.low, 100 * group.interval.high
        cells = (
            method,
            str(value),
            str(group.bisections),
            f"{100 * group.share:.2f}",
            f"{low:.2f} to {high:.2f}",
            "-" if group.declared is None else f"{100 * group.declared:.0f}",
            f"{100 * group.stopped / group.bisections:.1f}",
            f"{group.runs:.0f}",
            f"{group.builds:.1f}",
            f"{group.hours:.2f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def write_figure(path: Path, rows: Sequence[Row], command: str, confidence: float) -> None:
    """Three panels over the rate: share of wrong culprits, runs, builds.

    Bars are exact 95 % intervals; where none was wrong, a hollow marker is at the upper end of it.
    """
    import matplotlib

    matplotlib.use("svg")
    # The same figures give the same file.
    matplotlib.rcParams.update(
        {"svg.hashsalt": "bisection", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False}
    )
    from matplotlib import pyplot

    found = groups([row for row in rows if not row.false_rate], KEYS["rate"])
    methods = list(dict.fromkeys(method for method, _ in found))
    rates = sorted({row.rate for row in rows})
    figure, (wrong, runs, builds) = pyplot.subplots(1, 3, figsize=(11, 4.2), layout="constrained")
    for index, (method, (colour, marker)) in enumerate(zip(methods, STYLES, strict=False)):
        # Beside each other, not on each other.
        own = {
            number + 0.08 * (index - 1.5): found[method, rate]
            for number, rate in enumerate(rates)
            if (method, rate) in found
        }
        look = {"color": colour, "marker": marker, "markersize": 5, "label": method}
        for place, group in own.items():
            high, low = 100 * group.interval.high, 100 * group.interval.low
            wrong.plot([place, place], [low if group.wrong else high / 2, high], color=colour, linewidth=1)
            height, face = (100 * group.share, colour) if group.wrong else (high, "white")
            wrong.plot(place, height, color=colour, marker=marker, markersize=5, markerfacecolor=face)
        runs.plot(list(own), [group.runs for group in own.values()], **look)
        builds.plot(list(own), [group.builds for group in own.values()], **look)
    declared = 100 * (1.0 - confidence)
    wrong.axhline(declared, color="black", linewidth=0.8, linestyle="--")
    wrong.text(-0.4, declared * 1.08, f"declared: {declared:.0f} %", ha="left", va="bottom")
    wrong.set(title="Wrong culprits, % (hollow: none seen)", yscale="log", ylim=(0.02, 130))
    runs.set(title="Runs, mean", yscale="log")
    builds.set(title="Kernels built, mean")
    builds.set_ylim(0, 1.15 * max(group.builds for group in found.values()))
    for axes in (wrong, runs, builds):
        axes.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
        axes.set_xlim(-0.45, len(rates) - 0.55)
        axes.set_xlabel("share of runs in which the bug shows")
        axes.grid(axis="y", linewidth=0.3)
        axes.spines.right.set_visible(False)
        axes.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    builds.legend(loc="lower left", fontsize=8)
    counts = ", ".join(
        f"{sum(group.bisections for (name, _), group in found.items() if name == method)} by {method}"
        for method in methods
    )
    figure.suptitle(f"Bisections of 16 to 4096 candidates: {counts}", fontsize=10)
    figure.supxlabel(f"{datetime.date.today().isoformat()}  {command}", fontsize=7, color="grey")
    figure.savefig(path, metadata={"Date": None})
