# SPDX-License-Identifier: GPL-2.0-only
"""From what was observed of a trial to its outcome: a pure function, live or replayed from disk.

Precedence: the earliest hang, splat, out-of-memory kill or data corruption decides; what follows it is
consequence. A cycle of waiters found in the guest's memory names a hang better than the console does and
decides instead of it, but not instead of a splat that came first. What the kernel reports of a time in which
the host did not let it run decides nothing. Without a failure, what the stressor and the guest's init said;
without that, how the guest ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeGuard

from harness.guest.protocol import CHECK_FAILED, Corruption, End, Exit
from harness.outcome import Oracle, Outcome, Signature, on_stack
from harness.suite import suite_outcome, timed_out
from harness.watch.console import ConsoleEvent
from harness.watch.examination import Examination
from harness.watch.kinds import OutcomeKind
from harness.watch.observation import AgentMessage, ConsoleBegan, Ended, Observation, Stall, Starved
from harness.watch.said import Said

#: Functions of a signature's stack.
SIGNATURE_FRAMES = 5
#: Innermost frames that all reports of a kind share: how it was printed, or how the task went to sleep.
_COMMON = (
    "dump_stack*", "show_stack", "print_report", "kasan_report", "__asan_*", "kasan_check*",
    "__warn*", "report_bug", "vpanic", "panic", "__schedule_bug",
    "__schedule", "schedule*", "io_schedule*", "__might_resched", "__might_sleep",
)  # fmt: skip


def judge(observations: Sequence[Observation], oracle: Oracle) -> Outcome:
    """The outcome of a trial from everything that was observed of it, in order."""
    seen = latest(observations)
    said = Said.of(seen)
    outcome = _failure(seen, said, oracle) or _without_failure(seen, said, oracle)
    outcome = _with_tests(outcome, seen, said) if oracle.suite else replace(outcome, metrics=said.metrics)
    return replace(outcome, windows=said.windows, iterations=said.iterations)


def _with_tests(outcome: Outcome, seen: Sequence[Observation], said: Said) -> Outcome:
    """The outcome with what the suite had done; of a failure of the kernel, with the case that ran."""
    report = said.tests.report()
    outcome = replace(outcome, tests=report, metrics=report.counts)
    decided_s = outcome.decided_s
    if decided_s is None or outcome.kind is OutcomeKind.TEST_FAILED or not outcome.is_failure:
        return outcome
    until = Said.of(o for o in seen if o.host_s <= decided_s)
    running = until.tests.report().running
    return replace(outcome, title=f"{outcome.title}, while {running} ran") if running else outcome


def latest(observations: Iterable[Observation]) -> list[Observation]:
    """The observations with each console event once, as last read, where it was first seen."""
    places: dict[int, int] = {}
    seen: list[Observation] = []
    for observation in observations:
        if isinstance(observation, ConsoleEvent):
            if observation.number in places:
                seen[places[observation.number]] = observation
                continue
            places[observation.number] = len(seen)
        seen.append(observation)
    return seen


def deciding_event(events: Iterable[ConsoleEvent]) -> ConsoleEvent | None:
    """The event that decides what a console alone tells: the earliest failure."""
    return next((event for event in events if event.is_failure), None)


def _failure(seen: Sequence[Observation], said: Said, oracle: Oracle) -> Outcome | None:
    """What the kernel did wrong; None if nothing says that it did."""
    looks = [o for o in seen if isinstance(o, Examination) and not said.moved_after(o.since_s)]
    starved = {o.about: o for o in seen if isinstance(o, Starved)}
    believed = [o for o in seen if _is_failure(o) and not (_is_hang(o) and o.number in starved)]
    stalled = any(isinstance(o, Stall) and not said.moved_after(o.host_s) for o in seen)
    proof = _proof(looks, corroborated=stalled or any(_is_hang(o) for o in believed))
    failures = [o for o in seen if o is proof or _is_failure(o)]
    counted = [o for o in failures if o is proof or o in believed]
    if not counted:
        return _excused(failures, starved)
    first = counted[0]
    if proof and _is_hang(first):
        first = proof
    others = tuple(failure for failure in failures if failure is not first)
    match first:
        case Examination():
            return _livelock(first, others, oracle)
        case ConsoleEvent():
            return _reported(first, others, said, oracle, looks)
        case _:
            return Outcome(
                kind=OutcomeKind.CORRUPTION,
                title=f"the stressor found data changed: {_words(first)}",
                signature=Signature("data_corruption", ()),
                is_bug=oracle.corrupts,
                onset_s=first.host_s,
                decided_by=first,
                consequences=others,
            )


def _is_failure(observation: Observation) -> bool:
    match observation:
        case ConsoleEvent():
            return observation.is_failure
        case AgentMessage():
            return isinstance(observation.message, Corruption)
        case _:
            return False


def _is_hang(observation: Observation) -> TypeGuard[ConsoleEvent]:
    return isinstance(observation, ConsoleEvent) and observation.kind == "hang"


def _proof(looks: Sequence[Examination], *, corroborated: bool) -> Examination | None:
    """The first cycle that was found; else the first with gaps, if anything else says that it hangs."""
    for wanted in ("cycle", "partial") if corroborated else ("cycle",):
        found = next((look for look in looks if look.proof == wanted), None)
        if found:
            return found
    return None


def _excused(failures: Sequence[Observation], starved: Mapping[int | None, Starved]) -> Outcome | None:
    """Nothing but reports of hangs from a time in which the host did not let the guest run."""
    first = next((failure for failure in failures if isinstance(failure, ConsoleEvent)), None)
    if first is None:
        return None
    return Outcome(
        OutcomeKind.INFRA_ERROR,
        f"{_overload(starved[first.number])} before the kernel reported: {first.title}",
        decided_by=first,
        consequences=tuple(failure for failure in failures if failure is not first),
    )


def _overload(starved: Starved) -> str:
    return f"host overloaded: the guest could run {starved.run_s:.1f} of {starved.wall_s:.1f} s"


def _livelock(proof: Examination, others: tuple[Observation, ...], oracle: Oracle) -> Outcome:
    kind = OutcomeKind.LIVELOCK
    named = any(isinstance(other, ConsoleEvent) and oracle.names(other) for other in others)
    return Outcome(
        kind=kind,
        title=proof.title,
        signature=_signature(_on_entry(proof.entry), kind, proof.frames, oracle),
        is_bug=oracle.rule(kind, proof.frames, proof.entry) is not None or (not proof.frames and named),
        onset_s=proof.since_s,
        decided_by=proof,
        consequences=others,
        examination=proof,
    )


def _on_entry(entry: str) -> str:
    """The class of a livelock: on an entry that maps a huge folio it is another than on a page's."""
    _, huge, level = entry.partition(" (")
    return f"{OutcomeKind.LIVELOCK} on a {level.removesuffix(')')}" if huge else str(OutcomeKind.LIVELOCK)


def _reported(
    first: ConsoleEvent,
    others: tuple[Observation, ...],
    said: Said,
    oracle: Oracle,
    looks: Sequence[Examination],
) -> Outcome:
    assert first.outcome
    hang = first.kind == "hang"
    onset_s = said.last_move(first.host_s) if hang else None
    return Outcome(
        kind=first.outcome,
        title=first.title,
        signature=_signature(first.cls, first.outcome, first.frames, oracle)
        if first.outcome.is_answer
        else None,
        is_bug=_is_bug(first, others, oracle),
        onset_s=first.host_s if onset_s is None else onset_s,
        decided_by=first,
        consequences=others,
        examination=looks[-1] if hang and looks else None,
    )


def _is_bug(first: ConsoleEvent, others: tuple[Observation, ...], oracle: Oracle) -> bool:
    if oracle.names(first):
        return True
    # A report whose stack was lost on the way names nothing either.
    mute = _is_hang(first) and (first.outcome in oracle.corroborated or not first.frames)
    return mute and any(isinstance(event, ConsoleEvent) and oracle.names(event) for event in others)


def _signature(cls: str, kind: OutcomeKind, stack: Sequence[str], oracle: Oracle) -> Signature:
    """From the function that names the bug outwards: what a spinner was in just then is chance."""
    rule = oracle.rule(kind, stack)
    frames = list(stack)
    while frames and (not on_stack(rule.frames, frames[:1]) if rule else on_stack(_COMMON, frames[:1])):
        frames.pop(0)
    return Signature(cls, tuple(frames[:SIGNATURE_FRAMES]))


def _words(observation: Observation) -> str:
    """The fields of an agent's message as a person would list them."""
    assert isinstance(observation, AgentMessage)
    fields = observation.message.model_dump(exclude={"type", "t"})
    return ", ".join(f"{name} {value}" for name, value in fields.items()) or "no details"


def _without_failure(seen: Sequence[Observation], said: Said, oracle: Oracle) -> Outcome:
    status = said.exit.message if said.exit else None
    bad_exit = isinstance(status, Exit) and (status.status != 0 or status.signal != 0)
    # The stressor may hang in exit(): what it was going to exit with counts as well.
    bad_end = said.end is not None and isinstance(said.end.message, End) and said.end.message.status != 0
    if said.end and not bad_exit and not bad_end and not said.undone:
        if oracle.suite:
            return _of_suite(seen, suite_outcome(said.tests.report(), said.program, said.end, oracle))
        return _ran_to_its_end(seen, said, said.end, oracle)
    if CHECK_FAILED in _statuses(said):
        title = f"the stressor found: {'; '.join(said.errors) or 'a check that failed'}"
        signature = Signature(OutcomeKind.TEST_FAILED, ("check",))
        return Outcome(OutcomeKind.TEST_FAILED, title, signature, decided_by=said.error or said.end)
    if said.error:
        return _infra_error(f"the guest says: {'; '.join(said.errors)}", said.error)
    if bad_end and said.end and isinstance(said.end.message, End):
        return _infra_error(f"the stressor ended with status {said.end.message.status}", said.end)
    if isinstance(status, Exit):
        how = (
            f"was killed by signal {status.signal}" if status.signal else f"ended with status {status.status}"
        )
        return _infra_error(f"{status.path} {how} before it was done", said.exit)
    stall = next((o for o in reversed(seen) if isinstance(o, Stall)), None)
    if stall and not said.moved_after(stall.host_s):
        return _no_progress(stall, [o for o in seen if isinstance(o, Examination)])
    return _by_end(seen, said)


def _statuses(said: Said) -> list[int]:
    """What the stressor said that it would exit with, and what it did."""
    messages = [observation.message for observation in (said.end, said.exit) if observation]
    return [message.status for message in messages if isinstance(message, End | Exit)]


def _host_starved(seen: Sequence[Observation]) -> Starved | None:
    """Whether the host did not let the guest run, over the whole trial."""
    return next((o for o in seen if isinstance(o, Starved) and o.about is None), None)


def _of_suite(seen: Sequence[Observation], outcome: Outcome) -> Outcome:
    """The outcome, unless all that failed are time limits in a guest that the host did not let run."""
    starved = _host_starved(seen)
    if starved and outcome.tests and timed_out(outcome.tests):
        return _infra_error(f"{_overload(starved)}: {outcome.title}", starved)
    return outcome


def _ran_to_its_end(seen: Sequence[Observation], said: Said, end: AgentMessage, oracle: Oracle) -> Outcome:
    """A guest that is well: what it did, and whether that was as much as it should be."""
    if oracle.needs_windows and said.windows == 0:
        title = f"the window was hit in none of {said.iterations} iterations"
        return Outcome(OutcomeKind.NOT_EXERCISED, title, decided_by=end)
    missing = [limit.name for limit in oracle.metrics if limit.name not in said.metrics]
    if missing:
        title = f"{said.iterations} iterations, but nothing to measure: no {', '.join(missing)}"
        return Outcome(OutcomeKind.NOT_EXERCISED, title, decided_by=end)
    for limit in oracle.metrics:
        if crossed := limit.crossed(said.metrics[limit.name]):
            if limit.timed and (starved := _host_starved(seen)):
                return _infra_error(f"{_overload(starved)}: {crossed}", starved)
            signature = Signature(OutcomeKind.STARVED, (limit.name,))
            return Outcome(OutcomeKind.STARVED, crossed, signature, is_bug=True, decided_by=end)
    did = [f"{said.iterations} iterations"]
    if oracle.needs_windows:
        did.append(f"{said.windows} windows hit")
    did += [limit.words(said.metrics[limit.name]) for limit in oracle.metrics]
    return Outcome(OutcomeKind.COMPLETED, ", ".join(did), decided_by=end)


def _infra_error(title: str, decided_by: Observation | None) -> Outcome:
    return Outcome(OutcomeKind.INFRA_ERROR, title, decided_by=decided_by)


def _no_progress(stall: Stall, looks: Sequence[Examination]) -> Outcome:
    """A hang of which nothing is known but where the CPUs were, and who waited for whom."""
    look = next((look for look in reversed(looks) if look.since_s >= stall.since_s), None)
    known = [f"no progress for {stall.limit_s:g} s, and the kernel says nothing"]
    if stall.cpus:
        known.append(", ".join(map(str, stall.cpus)))
    if look:
        known.append(look.title)
    kind = OutcomeKind.NO_PROGRESS
    return Outcome(
        kind,
        "; ".join(known),
        Signature(kind, ()),
        onset_s=stall.since_s,
        decided_by=stall,
        examination=look,
    )


def _by_end(seen: Sequence[Observation], said: Said) -> Outcome:
    ended = next((o for o in reversed(seen) if isinstance(o, Ended)), None)
    if ended and ended.how == "lost":
        kind = OutcomeKind.TARGET_LOST if said.hello else OutcomeKind.INFRA_ERROR
        return Outcome(kind, ended.why, decided_by=ended)
    if ended and ended.how == "killed":
        by = f" by signal {-ended.status}" if ended.status < 0 else ""
        return Outcome(OutcomeKind.TARGET_LOST, f"the guest was killed from outside{by}", decided_by=ended)
    if not said.hello and not any(isinstance(o, ConsoleBegan) for o in seen):
        return _infra_error("the kernel said nothing at all", ended)
    if ended and ended.how == "exited":
        return Outcome(OutcomeKind.TARGET_LOST, "the guest ended without a word", decided_by=ended)
    if starved := _host_starved(seen):
        return _infra_error(_overload(starved), starved)
    if not said.hello:
        return _infra_error("the kernel came up, but its init never said hello", ended)
    if not said.started:
        return _infra_error("the guest came up, but the stressor never started", ended)
    title = f"out of time after {said.iterations} iterations, the guest alive"
    return Outcome(OutcomeKind.TIMEOUT, title, decided_by=ended)
