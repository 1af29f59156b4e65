# SPDX-License-Identifier: GPL-2.0-only
"""What counts as a proof, on facts made by hand: every reason for which it would not be one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest

from harness.diagnose.diagnosis import FAULTS, SETTLED_S, conclude
from harness.diagnose.facts import Facts, Frame, Wait
from harness.diagnose.svg import cycle_svg
from harness.diagnose.text import cycle_text
from tests.unit.livelock import HOLDER, PFN, SPINNER, WORKER, livelock, task, with_cpu, with_task

RT: dict[str, Any] = {"policy": "rt", "rt_priority": 1, "on_cpu_s": None}


def test_the_livelock_is_proven_by_seven_edges_in_order() -> None:
    found = conclude(livelock())
    assert (found.proof, found.gaps) == ("cycle", ())
    kinds = [edge.kind for edge in found.cycle]
    assert kinds == ["spins on", "held by", "waits for", "queued on", "served by", "needs", "occupied by"]
    assert found.cycle[0].source == found.cycle[-1].target == f"task:{SPINNER}"
    assert all(edge.sure == "data" and edge.evidence for edge in found.cycle)
    assert found.frames == ("do_swap_page", "hmm_range_fault") and found.entry == "device private"
    assert found.title.startswith(f"livelock: hmm-stressor:{SPINNER} -> folio pfn {PFN:#x} -> ")


def test_the_livelock_is_told_in_six_lines() -> None:
    assert cycle_text(conclude(livelock())) == (
        "hmm-stressor:38 spins on CPU 1 in do_swap_page < hmm_range_fault",
        "  on folio pfn 0xfff9ff4, locked, device private, held by hmm-stressor:35",
        "  which awaits lru_add_drain_per_cpu in lru_add_drain_all < migrate_vma_setup",
        "  queued on the worker pool of CPU 1 (mm_percpu_wq), no progress for 4.0 s",
        "  served by kworker/1:2:34, runnable, not running, needs CPU 1",
        "  occupied by hmm-stressor:38 for 4.1 s: preempt=none, in kernel mode",
    )


def test_a_huge_folio_is_told_by_its_pages() -> None:
    facts = livelock()
    found = conclude(replace(facts, folios=tuple(replace(folio, pages=512) for folio in facts.folios)))
    assert "device private, 512 pages, held by" in cycle_text(found)[1]


@pytest.mark.parametrize("model", ["full", "lazy"])
def test_a_fair_spinner_that_can_be_preempted_proves_nothing(model: Any) -> None:
    found = conclude(replace(livelock(), model=model))
    assert (found.proof, found.cycle) == ("none", ())
    text = " ".join(" ".join(cycle_text(found)).split())
    assert text.startswith("no cycle the longest chain: hmm-stressor:38 spins on CPU 1")
    assert f"needs CPU 1, and preempt={model}: it gives way" in text


@pytest.mark.parametrize(
    ("server_ms", "proof", "why"),
    [
        (0.0, "cycle", "real-time priority 1 over a fair task, fair server off"),
        (50.0, "none", "the fair server lets it in"),
        (None, "none", "real-time throttling lets it in"),
    ],
)
def test_a_real_time_spinner_starves_others_only_without_a_fair_server(
    server_ms: float | None, proof: str, why: str
) -> None:
    facts = with_cpu(with_task(livelock(), SPINNER, **RT), 1, fair_server_ms=server_ms)
    found = conclude(replace(facts, model="full"))
    assert found.proof == proof
    assert why in " ".join(" ".join(cycle_text(found)).split())


@pytest.mark.parametrize(
    "facts",
    [
        with_task(livelock(), SPINNER, on_cpu_s=SETTLED_S / 2),
        with_task(livelock(), HOLDER, off_cpu_s=SETTLED_S / 2),
        replace(livelock(), pools=tuple(replace(p, stalled_s=0.01) for p in livelock().pools)),
        with_task(livelock(), SPINNER, faults=FAULTS - 1),
    ],
    ids=["spinner", "holder", "pool", "faults"],
)
def test_a_circle_of_a_moment_proves_nothing(facts: Facts) -> None:
    """A kernel with the fix looks the same in the microsecond before its faulter goes to sleep."""
    found = conclude(facts)
    assert (found.proof, found.cycle) == ("none", ())
    assert "a circle, but" in found.gaps[0] or "not faulted often enough" in found.gaps[0]
    assert found.chain


@pytest.mark.parametrize(
    ("facts", "gap"),
    [
        (replace(livelock(), holds=tuple(replace(h, data=False) for h in livelock().holds)), "derived"),
        (replace(livelock(), works=()), "cannot be read"),
        (with_task(livelock(), WORKER, state="I"), "no worker of pool 6 wants to run"),
        (with_task(livelock(), WORKER, bound=False), "derived"),
    ],
)
def test_with_one_edge_missing_or_concluded_the_proof_is_partial_and_says_which(
    facts: Facts, gap: str
) -> None:
    found = conclude(facts)
    assert found.proof == "partial"
    assert any(gap in line for line in found.gaps), found.gaps
    assert any("gap: " in line for line in cycle_text(found))


def test_without_a_holder_there_is_no_proof() -> None:
    found = conclude(replace(livelock(), holds=()))
    assert found.proof == "none"
    assert found.gaps == (f"who holds the lock of folio {PFN:#x} is not known",)


def test_nothing_at_all_is_no_cycle() -> None:
    found = conclude(Facts())
    assert (found.proof, found.title) == ("none", "no cycle, nobody waits")
    assert cycle_text(found) == ("no cycle",)
    ElementTree.fromstring(cycle_svg(found))


def test_two_sleepers_with_each_others_mutex_are_a_deadlock() -> None:
    stack = (Frame("__mutex_lock", "kernel/locking/mutex.c", 600),)
    facts = Facts(
        model="full",
        tasks=(task(10, "a", "D", 0, stack=stack), task(11, "b", "D", 1, stack=stack)),
        waits=(
            Wait(10, "mutex", 0xFFFF888000001000, 0, "__mutex_lock", (11,)),
            Wait(11, "mutex", 0xFFFF888000002000, 0, "__mutex_lock", (10,)),
        ),
    )
    found = conclude(facts)
    first, second = "mutex 0xffff888000001000", "mutex 0xffff888000002000"
    assert found.proof == "cycle"
    assert found.title == f"deadlock: b:11 -> {second} -> a:10 -> {first} -> b:11"
    where = "in __mutex_lock\n    (kernel/locking/mutex.c:600)"
    assert "\n".join(cycle_text(found)) == (
        f"b:11 waits for {second} {where}\n  held by a:10\n  which waits for {first} {where}\n  held by b:11"
    )


def test_who_waits_for_an_unknown_completion_is_a_gap() -> None:
    facts = Facts(
        tasks=(task(10, "a", "D", 0, stack=(Frame("wait_for_completion"),)),),
        waits=(Wait(10, "completion", 0xFFFF888000001000, 0, "wait_for_completion"),),
    )
    found = conclude(facts)
    assert found.proof == "none" and "who completes 0xffff888000001000" in found.gaps[0]
    assert found.title == "no cycle; the longest chain: a:10 to completion 0xffff888000001000, 1 edges"


def test_a_waiter_of_the_stopper_needs_the_cpu_that_spins() -> None:
    facts = livelock()
    stopper = task(20, "migration/1", "R", 1, policy="stop", kthread=True)
    caller = task(50, "reboot", "D", 0, stack=(Frame("stop_one_cpu", "kernel/stop_machine.c", 140),))
    facts = replace(
        facts,
        tasks=(*facts.tasks, stopper, caller),
        waits=(*facts.waits, Wait(50, "stopper", 0, 0, "stop_one_cpu", (20,), "1")),
    )
    found = conclude(facts)
    assert found.proof == "cycle"
    assert [edge.target for edge in found.graph.edges_from("task:50")] == ["task:20"]
    assert [edge.target for edge in found.graph.edges_from("task:20")] == ["cpu:1"]
    # With full preemption the stopper gets in where the worker does.
    full = conclude(replace(facts, model="full"))
    assert not any(edge.blocks for edge in full.graph.edges_from("task:20"))


def test_as_json_is_plain() -> None:
    found = conclude(livelock())
    value = json.loads(json.dumps(found.as_json()))
    assert value["proof"] == "cycle" and len(value["cycle"]) == 7
    assert value["cycle"][0]["evidence"][0] == "task 38 frame #0 do_swap_page (mm/memory.c:4807)"
    assert value["facts"]["model"] == "none"


def test_no_text_leaves_its_box_or_the_picture() -> None:
    facts = with_task(livelock(), HOLDER, comm="<&a-long\"name'>")
    for diagnosis in (conclude(facts), conclude(replace(facts, model="full")), conclude(Facts())):
        root = ElementTree.fromstring(cycle_svg(diagnosis))
        width = float(root.attrib["width"])
        texts = [element for element in root.iter() if element.tag.endswith("}text")]
        boxes = [e for e in root.iter() if e.attrib.get("class", "").startswith("box")]
        assert len(boxes) == len({n for e in diagnosis.chain for n in (e.source, e.target)})
        for text in texts:
            # The widest monospaced fonts advance by 0.602 of their height.
            end = float(text.attrib["x"]) + 0.602 * float(text.attrib["font-size"]) * len(text.text or "")
            assert end <= width
        for box in boxes:
            left, top, wide, high = (float(box.attrib[key]) for key in ("x", "y", "width", "height"))
            inside = [t for t in texts if top < float(t.attrib["y"]) < top + high]
            assert inside
            for text in inside:
                assert left < float(text.attrib["x"])
                end = float(text.attrib["x"]) + 0.602 * float(text.attrib["font-size"]) * len(text.text or "")
                assert end <= left + wide


@pytest.mark.parametrize("changes", [{"preempt_count": 1}, {"irqs_off": True}])
def test_what_may_last_for_a_moment_only_is_not_sure(changes: dict[str, Any]) -> None:
    facts = with_cpu(replace(livelock(), model="full"), 1, **changes)
    assert conclude(facts).proof == "partial"


def test_a_folio_somewhere_in_the_spinners_range_is_not_sure() -> None:
    facts = livelock()
    spins = tuple(replace(spin, current=False) for spin in facts.spins)
    assert conclude(replace(facts, spins=spins)).proof == "partial"


def test_of_two_holders_neither_is_sure() -> None:
    facts = livelock()
    other = replace(facts.holds[0], pid=WORKER)
    assert conclude(replace(facts, holds=(*facts.holds, other))).proof == "partial"


def test_who_only_happens_to_spin_is_not_blamed_for_a_deadlock_elsewhere() -> None:
    facts = livelock()
    pair = (task(70, "a", "D", 0), task(71, "b", "D", 0))
    waits = (
        Wait(70, "mutex", 0x10, 0, "__mutex_lock", (71,)),
        Wait(71, "mutex", 0x20, 0, "__mutex_lock", (70,)),
    )
    found = conclude(replace(facts, holds=(), tasks=(*facts.tasks, *pair), waits=waits))
    assert found.proof == "cycle" and found.title.startswith("deadlock")
    assert found.frames == ()
