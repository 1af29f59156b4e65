# SPDX-License-Identifier: GPL-2.0-only
"""Which units of a night run in what order, and which have to wait for another night."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli import main
from harness.nightly.child import Ran
from harness.nightly.model import load_nightly
from harness.nightly.units import in_turn, took, units_of
from harness.results.night import NightTreeFacts
from harness.results.runfolder import read_record, write_record
from tests.unit.nightroom import FILE, Room, Verbs, night


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    return Room(tmp_path, monkeypatch)


def test_what_did_not_fit_comes_first_the_next_night(room: Room) -> None:
    order = ["mainline.trylock-starvation", "mainline.churn", "stable.trylock-starvation", "stable.churn"]
    cut = Verbs(instead={"stable.churn": Ran(None)})
    assert room.night(cut) == 0 and cut.units == order
    assert [unit["state"] for unit in room.last["units"]] == ["done", "done", "done", "cut"]
    again = Verbs()
    # Behind the control that it needs.
    assert room.night(again) == 0 and again.units == [order[2], order[3], order[0], order[1]]


def test_what_has_no_control_of_its_own_is_run_behind_one(room: Room) -> None:
    """Its turn or not: without one it could not be judged, if the budget ended between them."""
    lines = FILE.splitlines(keepends=True)
    (at,) = (number for number, line in enumerate(lines) if line.endswith("- trylock-starvation\n"))
    room.file.write_text("".join([*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]))
    order = ["mainline.trylock-starvation", "mainline.churn", "stable.trylock-starvation", "stable.churn"]
    verbs = Verbs(instead={"stable.trylock-starvation": Ran(None)})
    assert room.night(verbs) == 3 and verbs.units == order
    why = {(cell["tree"], cell["label"]): cell["why"] for cell in room.last["cells"] if not cell["judged"]}
    assert why["stable", "churn"] == "no control of this tree has an answer tonight"
    assert ("mainline", "churn") not in why
    # A control that takes the whole budget in vain is not waited for.
    changed(room, {"stable/trylock-starvation": 1500.0})
    verbs = Verbs()
    room.night(verbs)
    assert verbs.units == [*order[:2], order[3], order[2]]


@pytest.mark.parametrize(
    ("left_out", "controlled"),
    [
        ("{kernels: [unfixed], preempt: [full]}", True),
        ("{kernels: [unfixed]}", False),
        ("{kernels: [fixed]}", True),
    ],
)
def test_a_control_that_is_left_out_everywhere_is_none(room: Room, left_out: str, controlled: bool) -> None:
    exclude = f"    preempt: [none, full]\n    exclude: [{left_out[:-1]}, why: slow}}]\n"
    room.file.write_text(FILE.replace("    trials: 6\n", exclude))
    tree = NightTreeFacts(name="mainline", source="", revision="1" * 40)
    first, churn = units_of(load_nightly(room.file), [tree])
    assert first.controlled == controlled and not churn.controlled


def test_what_took_longer_than_is_left_is_not_begun(room: Room) -> None:
    room.night(Verbs())
    changed(room, {"mainline/churn": 3600.0})
    verbs = Verbs()
    assert room.night(verbs) == 0 and "mainline.churn" not in verbs.units
    (left,) = [unit for unit in room.last["units"] if unit["state"] == "left"]
    assert "it took 60 min 00 s last time" in left["reason"]
    # The one that comes first is begun whatever it took: else it never would be.
    verbs = Verbs()
    room.night(verbs)
    assert verbs.units[:2] == ["mainline.trylock-starvation", "mainline.churn"]


def test_what_no_budget_is_enough_for_keeps_nothing_else_from_running(room: Room) -> None:
    def unit(name: str, state: str, seconds: float) -> dict[str, object]:
        return {"name": name, "state": state, "seconds": seconds}

    units = [unit("mainline/churn", "cut", 1500.0), unit("stable/churn", "done", 60.0)]
    past = [night(units=units), night(units=[unit("mainline/churn", "done", 1000.0)])]
    names = ["mainline/churn", "stable/churn", "new/churn"]
    assert in_turn(names, past, 3600.0) == ["new/churn", "mainline/churn", "stable/churn"]
    assert in_turn(names, past, 1800.0) == ["new/churn", "stable/churn", "mainline/churn"]
    assert took("mainline/churn", past) == 1000.0 and took("new/churn", past) == 0.0
    cut = {"mainline.churn": Ran(None)}
    room.night(Verbs(instead=cut))
    assert room.last["complaints"] == []
    changed(room, {"mainline/churn": 1500.0})
    verbs = Verbs(instead=cut)
    room.night(verbs)
    assert verbs.units[-1] == "mainline.churn"
    assert "mainline/churn did not end in 25 min 00 s: it comes last" in room.last["complaints"][0]


def changed(room: Room, seconds: dict[str, float]) -> None:
    """The only night so far took so long for these units."""
    (folder,) = room.folders
    record = read_record(folder)
    for unit in record["result"]["units"]:
        unit["seconds"] = seconds.get(unit["name"], 1.0)
    write_record(folder, {key: value for key, value in record.items() if key != "schema"})
    main(["history", "--rebuild", str(folder), "--store", str(room.place / "store.sqlite")])
