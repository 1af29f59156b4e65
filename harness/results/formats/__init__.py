# SPDX-License-Identifier: GPL-2.0-only
"""The formats a run can be exported in, by name: each a function from a run to the text of a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from harness.results.formats.jsonl import jsonl
from harness.results.formats.junit import junit
from harness.results.formats.kcidb import kcidb
from harness.results.formats.ktap import ktap
from harness.results.formats.markdown import markdown
from harness.results.formats.options import Options
from harness.results.formats.reply import reply
from harness.results.html.report import html
from harness.results.reading import RunRecord

FORMATS: Mapping[str, Callable[[RunRecord, Options], str]] = {
    "junit": junit,
    "ktap": ktap,
    "kcidb": kcidb,
    "jsonl": jsonl,
    "markdown": markdown,
    "reply": reply,
    "html": html,
}
