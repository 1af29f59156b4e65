# SPDX-License-Identifier: GPL-2.0-only
"""`list`: every name with a title, all about one, in words and as JSON."""

from __future__ import annotations

import json

import pytest

from harness.cli import main
from harness.verbs.list import KINDS


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What `list` prints, without an error."""
    assert main(["list", *words]) == 0
    out, err = capsys.readouterr()
    assert not err and "\x1b" not in out
    return out


def test_every_name_of_every_kind_has_a_line_with_a_title(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys).splitlines()
    told = json.loads(said(capsys, "--json"))
    assert [key for key in told if key != "schema"] == list(KINDS)
    for kind in KINDS:
        assert [one["name"] for one in told[kind]] == KINDS[kind].names()
        assert all(one["title"] in said(capsys, kind) for one in told[kind])
        assert {f"{one['name']} {one['title']}" for one in told[kind]} <= {
            " ".join(li.split()) for li in lines
        }


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "rt-spinner",
            [
                "needs 2 CPUs, preempt=full|lazy",
                "hold_ms 5000 1 to 10000 ms waiting for the spinner at most",
                "policy fifo fifo|rr the spinner's scheduling policy",
                "holder_delay_ms above 700 ms that locked folios waited for the drain (median)",
            ],
        ),
        ("trylock-starvation/wait-on-locked", ["role fix", "bug trylock-starvation"]),
        ("linux-7-lazy", ["boot preempt=lazy", "unfixed control stock-without-wait", "stock lazy"]),
        ("refcount-livelock", [f"{kind} refcount-livelock" for kind in ("scenario", "experiment", "matrix")]),
    ],
)
def test_all_about_one_is_told(name: str, lines: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    told = [" ".join(line.split()) for line in said(capsys, name).splitlines()]
    assert not [line for line in lines if line not in told]


def test_all_about_one_as_json_is_by_kind(capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(said(capsys, "refcount-livelock", "--json"))
    assert list(told) == ["schema", "scenarios", "experiments", "matrices"]
    (scenario,) = told["scenarios"]
    assert scenario["parameters"]["delay_us"]["maximum"] == 1000000
    assert scenario["oracle"]["metrics"]["faults_per_migration"]["above"] == 50


@pytest.mark.parametrize(("name", "meant"), [("rt-spiner", "rt-spinner"), ("scenario", "scenarios")])
def test_an_unknown_name_is_bad_input(name: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", name]) == 2
    assert f"nothing is called {name!r} (did you mean {meant}?)" in capsys.readouterr().err
