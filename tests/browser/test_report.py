# SPDX-License-Identifier: GPL-2.0-only
"""The page of a run as its reader has it: in a browser, on a phone, by night, with a hostile console."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.chromium import Page, browser
from tests.unit.test_formats import HOSTILE, change, export, hostile_run, verdict

pytestmark = pytest.mark.browser
__all__ = ["hostile_run"]

CONSOLE = (
    Path(__file__).resolve().parents[1] / "data" / "console" / "7.3-unfixed-preempt-none-soft-lockup.log"
)
PHONE, DESK = 390, 1100

#: The texts whose contrast with what is behind them is below 4.5 (WCAG 2.1, 1.4.3), all sections opened.
CONTRAST = """(() => {
  document.querySelectorAll('details').forEach(one => one.open = true);
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const colour = rgb(getComputedStyle(node).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (walk.nextNode()) {
    const node = walk.currentNode, element = node.parentElement;
    if (!node.textContent.trim() || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const ink = light(rgb(element.closest('svg') ? style.fill : style.color)), paper = light(behind(element));
    const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    seen += 1;
    if (ratio < 4.5) poor.push([node.textContent.trim().slice(0, 40), element.className, ratio.toFixed(2)]);
  }
  return {seen, poor};
})()"""

#: What sticks out of the window, but for what scrolls by itself.
OVERFLOW = """(() => {
  document.querySelectorAll('details').forEach(one => one.open = true);
  const out = [...document.querySelectorAll('body *')].filter(one => !one.closest('.wide > *, svg'))
    .filter(one => one.getBoundingClientRect().right > innerWidth + 1)
    .map(one => one.tagName + '.' + one.className);
  return {width: document.documentElement.scrollWidth, out};
})()"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def write_page(run: Path) -> Path:
    """The run's page, beside it."""
    path = run.parent / "report.html"
    path.write_bytes(export(run, "html").encode("utf-8", errors="backslashreplace"))
    return path


@pytest.fixture
def locked_up(recorded_run: Path) -> Path:
    """The recorded run, one of whose guests reported a soft lockup."""
    trial = recorded_run / "trials" / "001-unfixed"
    (trial / "console.log").write_bytes(CONSOLE.read_bytes())
    (trial / "console.times").write_text("0 1.5\n")
    (trial / "evidence" / "evidence.json").unlink()
    change(trial, console_s=1.5)
    return recorded_run


def texts(page: Page, selector: str) -> list[str]:
    """The visible text of all that a selector finds."""
    found = page.evaluate(f"[...document.querySelectorAll({selector!r})].map(one => one.innerText)")
    assert isinstance(found, list)
    return found


def test_a_reader_learns_the_verdict_first_then_rates_cycle_and_command(page: Page, locked_up: Path) -> None:
    page.open(write_page(locked_up), DESK)
    assert texts(page, "h1") == ["✓ fixed"]
    sections = page.evaluate(
        "[...document.querySelectorAll('h1, section')].map(one => one.id || one.tagName)"
    )
    assert sections == ["H1", "rates", "cycle", "trials", "kernels", "again"]
    (rates,) = texts(page, "#rates table")
    assert "0.23 to 1.00" in rates and "base-without-wait + 01-fix.mbox" in rates
    assert "which awaits lru_add_drain_per_cpu" in texts(page, "#cycle pre")[0]
    width = page.evaluate("document.querySelector('#cycle img').naturalWidth")
    assert width > 300  # drawn, and the picture could be read
    assert texts(page, ".command") == ["hmm-harness compare --try fix.mbox --until-sure --out /runs"]
    assert "softleaf_entry_wait_on_locked(entry, vmf->ptl);" in page.evaluate("document.body.textContent")
    assert texts(page, "#kernels section > p, #kernels > p") == ["The same configuration as unfixed."]


def test_the_splat_stands_out_and_its_noise_is_folded(page: Page, locked_up: Path) -> None:
    page.open(write_page(locked_up), DESK)
    (title, *_) = texts(page, "#trial-1 .splat .said")
    assert "soft lockup - CPU#1 stuck" in title and "1.50 s" in title
    loud = "\n".join(texts(page, "#trial-1 .splat pre.loud"))
    assert "hmm_range_fault_locked" in loud and "RAX:" not in loud
    folded = page.evaluate(
        "[...document.querySelectorAll('.splat details:not([open])')].map(d => d.textContent)"
    )
    assert any("RAX:" in text for text in folded)
    marks = page.evaluate(
        "[...document.querySelectorAll('#trial-1 svg .number')].map(one => one.textContent)"
    )
    assert marks and marks[0] == "1"  # the same number on the time axis


@pytest.mark.parametrize("dark", [False, True], ids=["day", "night"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_it_can_be_read_everywhere(page: Page, locked_up: Path, width: int, dark: bool) -> None:
    page.open(write_page(locked_up), width, dark=dark)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(13, 17, 23)" if dark else "rgb(255, 255, 255)")
    contrast = page.evaluate(CONTRAST)
    assert contrast["seen"] > 150 and contrast["poor"] == []
    assert page.evaluate(OVERFLOW) == {"width": width, "out": []}
    smallest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('body *')].filter(one => one.innerText)"
        ".map(one => parseFloat(getComputedStyle(one).fontSize)))"
    )
    assert smallest >= 12


def test_nothing_is_told_by_colour_alone(page: Page, hostile_run: Path) -> None:
    page.open(write_page(hostile_run), DESK)
    said = page.evaluate(
        "[...document.querySelectorAll('#trials tbody b')].map(one => "
        "getComputedStyle(one, '::before').content + one.innerText)"
    )
    assert {'"✗ "oops', '"? "not_exercised', '"? "timeout', '"✓ "livelock', '"✗ "starved'} <= set(said)
    assert texts(page, "h1") == ["✗ not_fixed"]


def test_no_request_leaves_the_page_and_none_of_its_words_is_markup(page: Page, hostile_run: Path) -> None:
    trial = hostile_run / "trials" / "003-unfixed"
    lines = [*HOSTILE, '<img src="http://127.0.0.1:9/x" onerror="document.title=1">', "<svg onload=alert(1)>"]
    text = "".join(f"[    1.0000{n:02d}] {line}\n" for n, line in enumerate(lines))
    (trial / "console.log").write_bytes(text.encode("utf-8", errors="surrogateescape"))
    (trial / "evidence" / "evidence.json").unlink()
    (trial / "evidence" / "cycle.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg"><script>top.document.title="owned"</script>'
        '<image href="http://127.0.0.1:9/y"/></svg>'
    )
    verdict(hostile_run, "not_fixed", "<h1 id=owned>fixed</h1>")
    page.requests.clear()
    page.complaints.clear()
    page.open(write_page(hostile_run), DESK)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert {url.split(",")[0] for url in page.requests} <= {
        (hostile_run.parent / "report.html").as_uri(), "data:image/svg+xml;base64",
    }  # fmt: skip
    assert page.complaints == []
    assert page.evaluate("document.querySelectorAll('script, #owned, [onload], [onerror]').length") == 0
    assert page.evaluate("document.title") == "not_fixed: trylock-starvation"
    shown = page.evaluate("document.body.innerText")
    assert "<svg onload=alert(1)>" in shown and "</failure><script>alert(1)</script>]]>" in shown
    assert "\\x1b[31mred\\x00\\x9b\\u202eright to left" in shown
    assert not any(letter in shown for letter in "\x1b\x00\x9b\u202e")


def test_a_console_of_a_gigabyte_is_read_in_parts(page: Page, locked_up: Path) -> None:
    trial = locked_up / "trials" / "001-unfixed"
    middle = 1 << 29
    with (trial / "console.log").open("wb") as log:
        log.write(b"[    0.000000] Linux version 7.3.4\n")
        log.seek(middle)  # a hole: what is not read costs nothing to write either
        log.write(b"\n" + CONSOLE.read_bytes())
        log.seek((1 << 30) - 64)
        log.write(b"\n[   99.000000] the last line\n")
        log.truncate()
    (trial / "console.times").write_text(f"0 0.1\n{middle} 1.5\n{(1 << 30) - 64} 99.0\n")
    path = write_page(locked_up)
    assert path.stat().st_size < 2_000_000
    page.open(path, PHONE)
    (title, *_) = texts(page, "#trial-1 .splat .said")
    assert "soft lockup" in title and "1.50 s" in title
    assert "the last line" in page.evaluate("document.querySelector('#trial-1').textContent")
    assert any("bytes are not shown" in text for text in texts(page, "#trial-1 .gap"))


def matrix_result() -> dict[str, Any]:
    """Two kernels on two guests, one cell without an answer."""
    base = {
        "scenario": "s",
        "label": "s",
        "set": {},
        "state": "done",
        "reason": "",
        "windows": 6,
        "metrics": {},
    }
    base |= {"trials": 6, "answered": 6, "failed_otherwise": 0, "failures": [], "evidence": []}
    bug = {"outcomes": {"livelock": 5, "completed": 1}, "reproduced": 5, "rate": 5 / 6, "ci95": [0.36, 1.0]}
    none = {"outcomes": {"completed": 6}, "reproduced": 0, "rate": 0.0, "ci95": [0.0, 0.46]}
    silent = {"outcomes": {"timeout": 6}, "reproduced": 0, "rate": None, "ci95": [0.0, 1.0], "answered": 0}
    cells = [
        {**base, "kernel": "unfixed", "preempt": "none", "cpus": 2, **bug},
        {**base, "kernel": "unfixed", "preempt": "full", "cpus": 2, **silent},
        {**base, "kernel": "fixed", "preempt": "none", "cpus": 2, **none},
    ]
    row: dict[str, Any] = {"patches": [], "config": [], "idea": "", "against": ""}
    return {
        "schema": 1,
        "tree": "a tree",
        "guest": "g",
        "kernels": [{**row, "name": "unfixed"}, {**row, "name": "fixed"}],
        "scenarios": [{"label": "s", "scenario": "s", "set": {}, "metrics": {}}],
        "relative_to": "",
        "cells": cells,
        "complete": True,
        "day": "2026-11-29",
        "seconds": 1.0,
        "reproduce": "m",
    }


def test_a_matrix_is_a_map_whose_shades_have_numbers(page: Page, recorded_run: Path) -> None:
    path = recorded_run / "run.json"
    record = json.loads(path.read_text()) | {"verb": "matrix", "seconds": 1.0, "result": matrix_result()}
    path.write_text(json.dumps(record))
    page.open(write_page(recorded_run), PHONE)
    assert texts(page, ".heat thead th") == ["kernel", "none, 2 CPUs", "full, 2 CPUs"]
    cells = [" ".join(text.split()) for text in texts(page, ".heat td")]
    assert cells == ["0.83 5 livelock, 1 completed", "- 6 timeout", "0.00 6 completed", "·"]
    shades = page.evaluate("[...document.querySelectorAll('.heat td')].map(one => one.className)")
    assert shades == ["shade4", "shade-none", "shade0", "absent"]
    assert page.evaluate(CONTRAST)["poor"] == [] and page.evaluate(OVERFLOW)["out"] == []
