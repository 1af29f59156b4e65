# SPDX-License-Identifier: GPL-2.0-only
"""The page of a run, from the template."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness import __version__
from harness.plain import plain
from harness.results.formats.options import Options
from harness.results.html.heatmap import heat_maps
from harness.results.html.page import detailed, kernel_views, trial_rows, trial_view
from harness.results.html.rates import rates_svg
from harness.results.html.tables import tables
from harness.results.reading import RunRecord
from harness.results.summary import COLUMNS, summarize

TEMPLATES = Path(__file__).resolve().parent / "templates"
#: More arms than these are no chart any more.
_ARMS = 12
#: Kernels whose patches are shown.
_KERNELS = 24


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = plain
    return environment


def html(run: RunRecord, options: Options) -> str:
    """The run as one HTML document. UserError for a damaged record."""
    summary = summarize(run)
    views = [trial_view(summary, arm, trial) for arm, trial in detailed(summary)]
    shown = next((view for view in views if view.open), None)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            summary=summary,
            run=run,
            version=__version__,
            css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
            columns=COLUMNS,
            counted=bool(summary.arms) and run.verb == "compare",
            rates=rates_svg(summary.arms) if summary.arms and len(summary.arms) <= _ARMS else "",
            shown=shown,
            views=views,
            trials=trial_rows(summary, views),
            kernels=kernel_views(summary)[:_KERNELS],
            heat_maps=heat_maps(summary.matrix) if summary.matrix else (),
            tables=tables(summary),
        )
    )
