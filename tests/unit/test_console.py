# SPDX-License-Identifier: GPL-2.0-only
"""The console parser: every row of the table, whole logs, and everything a serial line can do to them."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import pytest
import yaml

from harness.watch import console
from harness.watch.console import QUIET_S, TEXT_LINES, ConsoleEvent, ConsoleParser
from harness.watch.kinds import OutcomeKind
from harness.watch.lines import LineSplitter, PrefixReader
from harness.watch.signatures import Row, load_table

DATA = Path(__file__).resolve().parents[1] / "data" / "console"
LOGS = sorted(DATA.glob("*.log"))
EXPECTED = yaml.safe_load((DATA / "expected.yaml").read_text(encoding="utf-8"))
BANNER = "[    0.000000][    T0] Linux version 7.3.4 (root@vm) (gcc) #1 SMP PREEMPT_DYNAMIC\n"
ROWS = load_table().rows
EXAMPLES = [(row, example) for row in ROWS for example in row.examples]


def parse(data: bytes | str, chunk: int = 1 << 20) -> list[ConsoleEvent]:
    """Every event as it was emitted."""
    raw = data.encode() if isinstance(data, str) else data
    parser = ConsoleParser()
    events = []
    for start in range(0, len(raw), chunk):
        events += parser.feed(raw[start : start + chunk], 0.0)
    return events + parser.close()


def final(data: bytes | str) -> list[ConsoleEvent]:
    """The complete events, in the order they began."""
    return sorted((event for event in parse(data) if event.complete), key=lambda event: event.number)


# -- the table ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "example"), EXAMPLES, ids=[f"{row.cls}-{text[25:60]}" for row, text in EXAMPLES]
)
def test_every_example_matches_its_own_row_and_becomes_an_event(row: Row, example: str) -> None:
    text = PrefixReader().read(1, 0.0, example).text
    found = load_table().match(text)
    assert found is not None and found.row is row
    assert "?" not in found.title
    before = BANNER if row.cls == "reboot" else ""
    events = final(before + example + "\n")
    assert [event.cls for event in events] == [row.cls]
    assert events[0].outcome is row.outcome and events[0].kind == row.kind


def test_the_table_has_every_class_a_console_can_say() -> None:
    assert {row.cls for row in ROWS} >= {
        "soft_lockup", "hard_lockup", "rcu_stall", "workqueue_lockup", "hung_task", "csd_lock", "oops",
        "sanitizer", "warning", "lockdep", "corruption", "oom", "panic", "taint", "reboot",
    }  # fmt: skip
    assert {row.kind for row in ROWS if row.outcome is None} == {"note"}


@pytest.mark.parametrize("line", load_table().non_events, ids=lambda line: line[25:65])
def test_lookalikes_are_no_events(line: str) -> None:
    assert parse(line + "\n") == []


@pytest.mark.parametrize("cls", ["soft_lockup", "hard_lockup", "workqueue_lockup", "hung_task", "panic"])
def test_a_header_is_known_with_any_character_lost_or_doubled(cls: str) -> None:
    example = next(row.examples[-1] for row in ROWS if row.cls == cls)
    assert "][" in example
    for at in range(len(example)):
        for damaged in (example[:at] + example[at + 1 :], example[:at] + example[at] + example[at:]):
            events = final(f"{BANNER}{damaged}\n")
            assert [event.cls for event in events] == [cls], damaged


# -- whole logs --------------------------------------------------------------------------------------------


def test_recorded_soft_lockup() -> None:
    (event,) = final((DATA / "7.3-unfixed-preempt-none-soft-lockup.log").read_bytes())
    assert event.cls == "soft_lockup" and event.outcome is OutcomeKind.SOFT_LOCKUP
    assert (event.cpu, event.task, event.line, event.time_s) == (1, "stress:53", 223, 14.5439)
    assert event.frames[:4] == ("pud_flags", "handle_mm_fault", "hmm_range_fault_locked", "hmm_range_fault")
    assert event.text[0] == "watchdog: BUG: soft lockup - CPU#1 stuck for 13s! [stress:53]"
    assert event.text[-1] == " </TASK>"


def test_recorded_soft_lockup_with_callers() -> None:
    first, second = final((DATA / "7.3-stock-pmd-sibling-soft-lockup.log").read_bytes())
    assert first.frames[:2] == ("softleaf_to_page", "do_huge_pmd_device_private")
    assert second.title == "soft lockup - CPU#1 stuck for 26s [stress:49]"


def test_every_log_has_its_expectation() -> None:
    assert {path.name for path in LOGS} == set(EXPECTED)
    seen = {event[0] for events in EXPECTED.values() for event in events}
    decisive = {row.cls for row in ROWS if row.outcome is not None}
    assert decisive - seen == {"early_exception", "spinlock", "bug", "reboot"}, (
        "these have example lines only"
    )


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_a_whole_log_says_what_it_is_known_to_say(path: Path) -> None:
    events = final(path.read_bytes())
    found = [[event.cls, event.line, event.cpu, event.task, list(event.frames[:6])] for event in events]
    assert found == EXPECTED[path.name]


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_the_cut_of_the_reads_changes_nothing(path: Path) -> None:
    data = path.read_bytes()
    whole = parse(data)
    assert parse(data, chunk=1) == whole
    dice = random.Random(path.name)
    for _ in range(5):
        parser = ConsoleParser()
        events, at = [], 0
        while at < len(data):
            size = dice.choice((1, 2, 7, 60, 500, 4096))
            events += parser.feed(data[at : at + size], 0.0)
            at += size
        assert events + parser.close() == whole


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_a_report_begins_before_it_is_complete(path: Path) -> None:
    events = parse(path.read_bytes())
    for event in events:
        others = [other for other in events if other.number == event.number]
        assert others[-1].complete and all(not other.complete for other in others[:-1])
        assert len({(other.cls, other.title, other.line) for other in others}) == 1


# -- prefixes ----------------------------------------------------------------------------------------------

LOCKUP = "watchdog: BUG: soft lockup - CPU#1 stuck for 13s! [stress:53]"


@pytest.mark.parametrize(
    ("prefix", "time_s"),
    [
        ("", None),
        ("[   14.543900] ", 14.5439),
        ("[   14.543900][    C1] ", 14.5439),
        ("[   14.543900] [  T123] ", 14.5439),
        ("[1234567.543900][T123456] ", 1234567.5439),
        ("<0>[   14.543900] ", 14.5439),
        ("<0>", None),
        ("** 17 printk messages dropped **[   14.543900] ", 14.5439),
        ("** 17 printk messages dropped ** [   14.543900][    C1] ", 14.5439),
        ("debian login: [   14.543900] ", 14.5439),
        ("\r[   14.543900] ", 14.5439),
        ("\x1b[0m\x1b[1;31m[   14.543900] ", 14.5439),
        ("\x1bc\x1b[?7l\x1b[2J[   14.543900] ", 14.5439),
        ("\x1b]0;title\x07[   14.543900] ", 14.5439),
        ("\x00\x00[   14.543900] ", 14.5439),
        ("\ufffd\ufffd[   14.543900] ", 14.5439),
        ("unfinished words of a program[   14.543900] ", 14.5439),
        ("Nov 23 12:00:00 host kernel: ", None),
        ("Nov  3 12:00:00 host kernel: [   14.543900] ", 14.5439),
        ("2026-11-23T12:00:00+0000 host kernel: ", None),
        ("[Mon Nov 23 15:37:05 2026] ", None),
        ("2026-11-23T15:37:05,123456+00:00 ", None),
        ("kern  :emerg : [   14.543900] ", 14.5439),
        ("0,1023,14543900,-,caller=C1;", 14.5439),
    ],
)
def test_prefixes_are_read_off(prefix: str, time_s: float | None) -> None:
    (event,) = final(f"{prefix}{LOCKUP}\r\n")
    assert (event.cls, event.cpu, event.task) == ("soft_lockup", 1, "stress:53")
    assert event.time_s == time_s
    assert event.text == (LOCKUP,)


def test_a_log_that_a_program_prints_is_no_news() -> None:
    printed = f"$ cat old.log\n{LOCKUP}\nKernel panic - not syncing: old news\n"
    assert parse(BANNER + printed) == []
    assert [event.cls for event in final(printed)] == ["soft_lockup", "panic"]


def test_another_programs_journal_lines_are_no_news() -> None:
    line = "Nov 23 12:00:00 host {}: Kernel panic - not syncing: x\n"
    assert parse(line.format("watchd[12]") + line.format("systemd[1]")) == []
    assert [event.cls for event in final(line.format("kernel"))] == ["panic"]


def test_lines_are_counted_as_an_editor_does() -> None:
    splitter = LineSplitter()
    lines = [*splitter.feed(b"one\r\n\r\n\rtwo\rthree\nfo"), *splitter.feed(b"ur"), *splitter.close()]
    assert lines == [(1, "one"), (3, "two"), (3, "three"), (4, "four")]


# -- reports -----------------------------------------------------------------------------------------------


def report(caller: str, cpu: int, function: str) -> list[str]:
    prefix = f"[   14.500000][{caller:>6}] "
    lines = [
        f"watchdog: BUG: soft lockup - CPU#{cpu} stuck for 13s! [stress:{cpu}]",
        f"CPU: {cpu} UID: 0 PID: {cpu} Comm: stress Not tainted 7.3.4 #1 PREEMPT(none)  ",
        f"RIP: 0010:{function}+0x10/0x20",
        "Call Trace:",
        " <TASK>",
        f" ? guess_of_{function}+0x1/0x2",
        f" outer_{function}.constprop.0+0x1/0x2 [test_hmm]",
        "RIP: 0033:0x43aafb",
        " </TASK>",
    ]
    return [prefix + line for line in lines]


def test_interleaved_reports_are_told_apart_by_their_caller() -> None:
    one, two = report("C0", 0, "a"), report("C1", 1, "b")
    mixed = [line for pair in zip(one, two, strict=True) for line in pair]
    first, second = final("\n".join(mixed) + "\n")
    assert (first.cpu, first.frames) == (0, ("a", "outer_a"))
    assert (second.cpu, second.frames) == (1, ("b", "outer_b"))
    assert all("b" not in line.split("+")[0] for line in first.text if "+0x" in line)


def test_lines_of_other_callers_do_not_get_into_a_report() -> None:
    lines = report("C1", 1, "a")
    lines.insert(5, "[   14.500000][   T99]  foreign+0x1/0x2")
    (event,) = final("\n".join(lines) + "\n")
    assert event.frames == ("a", "outer_a")
    assert not any("foreign" in line for line in event.text)


def test_a_trace_without_marks_ends_at_the_first_other_line() -> None:
    lines = [
        "Internal error: Oops: 0000000096000004 [#1] SMP",
        "pc : do_swap_page+0x1/0x2",
        "Call trace:",
        " do_swap_page+0x1/0x2 (P)",
        " handle_mm_fault+0x1/0x2",
        "usb 1-1: new device",
        " not_mine+0x1/0x2",
    ]
    (event,) = final("".join(f"[    9.100000][   T52] {line}\n" for line in lines))
    assert event.frames == ("do_swap_page", "handle_mm_fault")
    assert event.text[-1] == " handle_mm_fault+0x1/0x2"


def test_silence_completes_a_report() -> None:
    parser = ConsoleParser()
    (begun,) = parser.feed(
        b"[   26.010000][    C1] rcu: INFO: rcu_preempt self-detected stall on CPU\n", 30.0
    )
    assert not begun.complete and parser.reading
    assert parser.tick(30.0 + QUIET_S / 2) == []
    (done,) = parser.tick(30.0 + QUIET_S)
    assert done.complete and done.number == begun.number and not parser.reading


def test_silence_by_the_kernels_clock_completes_a_report() -> None:
    stall = "[   26.010000][    C1] rcu: INFO: rcu_preempt self-detected stall on CPU"
    events = parse(f"{stall}\n[   60.000000][    C1] usb\n")
    assert [event.complete for event in events] == [False, True]
    assert events[1].text == ("rcu: INFO: rcu_preempt self-detected stall on CPU",)


def test_a_second_banner_is_an_unexpected_reboot() -> None:
    (event,) = final(BANNER + "[    5.000000][    T1] hello\n" + BANNER)
    assert event.cls == "reboot" and event.line == 3 and event.outcome is OutcomeKind.TARGET_LOST


@pytest.mark.parametrize(
    "asked", ["reboot: Restarting system", "reboot: Power down", "kexec_core: Starting new kernel"]
)
def test_a_reboot_that_was_asked_for_is_none(asked: str) -> None:
    assert parse(f"{BANNER}[    5.000000][    T1] {asked}\n{BANNER}") == []


def test_a_line_that_nothing_ended_still_counts() -> None:
    (event,) = final("[    1.300000][    T1] Kernel panic - not syncing: No working init found.")
    assert event.title == "kernel panic: No working init found."


# -- anything at all ---------------------------------------------------------------------------------------


def test_random_bytes_never_raise() -> None:
    dice = random.Random(1)
    pieces = [example.encode() for _, example in EXAMPLES] + [
        b" <TASK>",
        b"Call Trace:",
        b" </TASK>",
        b"\r",
        b"\x1b[",
    ]
    for _ in range(200):
        parser = ConsoleParser()
        for step in range(30):
            data = dice.randbytes(dice.randrange(200))
            if dice.random() < 0.7:
                data += dice.choice(pieces) + b"\n" * dice.randrange(2)
            for event in parser.feed(data, step * dice.random()):
                assert event.number > 0 and event.line > 0
        parser.close()


def test_megabytes_of_binary_need_little_memory() -> None:
    dice = random.Random(2)
    block = dice.randbytes(1 << 18).replace(b"\n", b"x")
    parser = ConsoleParser()
    tracemalloc.start()
    for _ in range(32):
        assert parser.feed(block, 0.0) == []
    events = parser.feed(f"\n{LOCKUP}\n".encode(), 0.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [event.cls for event in events] == ["soft_lockup"] and events[0].line == 2
    assert peak < 4 << 20


def test_a_report_without_end_keeps_a_bounded_text() -> None:
    body = "".join(f"[   14.500000][    C1]  f{n}+0x1/0x2\n" for n in range(5000))
    events = final(f"[   14.500000][    C1] {LOCKUP}\n[   14.500000][    C1] Call Trace:\n{body}")
    assert len(events[0].text) == TEXT_LINES and len(events[0].frames) <= 64


def test_a_storm_of_reports_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "MAX_EVENTS", 1_000)
    data = f"{LOCKUP}\n{'x' * 300}\n".encode() * 2_000
    tracemalloc.start()
    events = parse(data, chunk=4096)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert max(event.number for event in events) == 1_000
    assert peak < 8 << 20
