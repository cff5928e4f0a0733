"""The checker finds what it is there for: sound evidence passes, and every way of tampering with it is named."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.durability.checker import (
    Answered,
    Book,
    EventId,
    Evidence,
    Glimpse,
    Heard,
    JournalEntry,
    Published,
    Reminded,
    StepRun,
    check,
)
from tests.durability.plan import REST_MS, has_call, has_reminder, has_rest, has_step

SENT = {"a": 18, "b": 10}
ENDS = {0: 18, 1: 10}
EVENTS = [(key, sequence) for key, count in SENT.items() for sequence in range(1, count + 1)]
AT_REST = Glimpse(ENDS, ENDS, ENDS, live=0, outbox=0)
AT_KILL = Glimpse(
    reported={0: 3},
    stored={0: 6, 1: 2},
    ends={0: 12, 1: 5},
    live=1,
    outbox=2,
    journals=(
        JournalEntry("inv_1", "run", "stamp"),
        JournalEntry("inv_1", "completion", "1", ("stamp-a-6",)),
        JournalEntry("inv_2", "run", "stamp"),
    ),
)


def chained(sequences: Sequence[int]) -> str:
    digest = ""
    for sequence in sequences:
        digest = hashlib.sha256(f"{digest}/{sequence}".encode()).hexdigest()
    return digest


def stamp_of(event: EventId) -> str:
    return f"stamp-{event[0]}-{event[1]}" if has_step(event[1]) else ""


def message_of(event: EventId, offset: int) -> Published:
    key, sequence = event
    digest = chained(range(1, sequence + 1))
    return Published(list(SENT).index(key), offset, event, f"id-{key}-{sequence}", digest, stamp_of(event))


STAMPED_MS, WOKE_MS = 1_000, 1_000 + REST_MS + 1
CALLS = [event for event in EVENTS if has_call(event[1])]
STAMPS = {
    "stamp": {event: stamp_of(event) for event in EVENTS if has_step(event[1])},
    "wake": {event: f"wake-{event[0]}-{event[1]}" for event in EVENTS if has_rest(event[1])},
}

SOUND = Evidence(
    sent=SENT,
    ends=ENDS,
    books={key: Book(count, count, chained(range(1, count + 1))) for key, count in SENT.items()},
    stamps=STAMPS,
    reminded=[Reminded(event, 4) for event in EVENTS if has_reminder(event[1])],
    rested=[event for event in EVENTS if has_rest(event[1])],
    answered=[Answered(event, stamp_of(event), "teller", number) for number, event in enumerate(CALLS, start=1)],
    heard=[Heard(event, number) for number, event in enumerate(CALLS, start=1)],
    steps=[
        StepRun(step, event, 7, STAMPED_MS if step == "stamp" else WOKE_MS, stamp)
        for step, stamps in STAMPS.items()
        for event, stamp in stamps.items()
    ],
    published=[message_of(event, event[1]) for event in EVENTS],
    at_rest=AT_REST,
    glimpses=[AT_KILL],
)


def with_book(key: str, book: Book) -> Evidence:
    return replace(SOUND, books={**SOUND.books, key: book})


def with_message(event: EventId, change: Callable[[Published], Published]) -> Evidence:
    return replace(SOUND, published=[change(each) if each.event == event else each for each in SOUND.published])


def with_steps(*runs: StepRun) -> Evidence:
    return replace(SOUND, steps=[*SOUND.steps, *runs])


def without_runs(step: str, event: EventId) -> Evidence:
    return replace(SOUND, steps=[each for each in SOUND.steps if (each.step, each.event) != (step, event)])


def with_stamp(event: EventId, stamp: str | None) -> Evidence:
    stamps = {each: text for each, text in {**STAMPS["stamp"], event: stamp}.items() if text is not None}
    return replace(SOUND, stamps={**STAMPS, "stamp": stamps})


def with_more_messages(*messages: Published) -> Evidence:
    return replace(SOUND, published=[*SOUND.published, *messages])


def with_journals(*entries: JournalEntry) -> Evidence:
    return replace(SOUND, glimpses=[replace(AT_KILL, journals=entries)])


TAMPERED = {
    "an event is lost": (with_book("b", Book(9, 10, "")), "D1: b counts 9 events; 10 were sent"),
    "an event is applied twice": (with_book("b", Book(11, 10, "")), "D1: b counts 11 events; 10 were sent"),
    "a key is lost": (replace(SOUND, books={"a": SOUND.books["a"]}), "D1: b counts 0 events; 10 were sent"),
    "a key comes from nowhere": (with_book("c", Book(1, 1, "")), "D1: c counts 1 events; 0 were sent"),
    "the last event is not the last": (with_book("b", Book(10, 9, "")), "D1: the last event of b is 9"),
    "two events change places": (
        with_book("b", Book(10, 10, chained([1, 2, 4, 3, 5, 6, 7, 8, 9, 10]))),
        "D1: b has seen its 10 events in another order",
    ),
    "one is applied twice in place of another": (
        with_book("b", Book(10, 10, chained([1, 2, 3, 3, 5, 6, 7, 8, 9, 10]))),
        "D1: b has seen its 10 events in another order, or one of them twice",
    ),
    "a message is lost": (
        replace(SOUND, published=[each for each in SOUND.published if each.event != ("a", 7)]),
        "D2: there is no message about a#7",
    ),
    "a message is about nothing": (
        with_more_messages(replace(message_of(("b", 10), 99), event=("b", 11))),
        "D2: there is a message about b#11, which was never sent",
    ),
    "a message shows another state": (
        with_message(("a", 7), lambda each: replace(each, digest=chained([7]))),
        "D2: the message about a#7 was made from a state that never was",
    ),
    "a message is there twice under two ids": (
        with_more_messages(replace(message_of(("a", 7), 99), message_id="id-again")),
        "D2: a#7 was published under several message ids",
    ),
    "one id stands for two messages": (
        with_message(("a", 7), lambda each: replace(each, message_id="id-a-8")),
        "D2: message id id-a-8 stands for a#7, a#8",
    ),
    "a message has no id": (
        with_message(("a", 7), lambda each: replace(each, message_id="")),
        "D2: the message about a#7 has no message id",
    ),
    "a key is in two partitions": (
        with_more_messages(replace(message_of(("a", 7), 99), partition=1)),
        "D2: a#7 was published to several partitions",
    ),
    "a message overtakes another": (
        with_message(("a", 7), lambda each: replace(each, offset=50)),
        "D2: the first message about a#7 is behind that about 18",
    ),
    "a step did not run": (without_runs("stamp", ("a", 6)), "D3: the stamp of a#6 never ran"),
    "a step behind a sleep did not run": (without_runs("wake", ("a", 12)), "D3: the wake of a#12 never ran"),
    "a step ran unasked": (
        with_steps(StepRun("stamp", ("a", 7), 7, STAMPED_MS, "stamp-x")),
        "D3: the stamp of a#7 ran, which nobody asked for",
    ),
    "a step ran twice in one process": (
        with_steps(StepRun("stamp", ("a", 6), 7, STAMPED_MS, "stamp-x")),
        "D3: the stamp of a#6 ran 2 times in process 7",
    ),
    "a result is lost": (with_stamp(("b", 6), None), "D3: a result of the stamp of b#6 never is in the state"),
    "a result is of no run": (
        with_stamp(("b", 6), "stamp-x"),
        "D3: the result of the stamp of b#6 in the state is of no run of it",
    ),
    "a message has another result": (
        with_message(("a", 6), lambda each: replace(each, stamp="stamp-x")),
        "D3: a message has another result of the stamp of a#6 than the state",
    ),
    "a call has another result": (
        replace(SOUND, answered=[replace(each, stamp="stamp-x") for each in SOUND.answered]),
        "D3: a call has another result of the stamp of a#18 than the state",
    ),
    "a delayed send is lost": (
        replace(SOUND, reminded=SOUND.reminded[1:]),
        "D4: the delayed send of a#5 never arrived",
    ),
    "a delayed send arrives twice": (
        replace(SOUND, reminded=[*SOUND.reminded, SOUND.reminded[0]]),
        "D4: the delayed send of a#5 arrived 2 times",
    ),
    "a delayed send arrives unasked": (
        replace(SOUND, reminded=[*SOUND.reminded, Reminded(("a", 6), 0)]),
        "D4: the delayed send of a#6 arrived, which nobody asked for",
    ),
    "a delayed send arrives early": (
        replace(SOUND, reminded=[replace(SOUND.reminded[0], late_ms=-3), *SOUND.reminded[1:]]),
        "D4: the delayed send of a#5 arrived 3 ms early",
    ),
    "a sleep never ends": (replace(SOUND, rested=[]), "D4: the sleep of a#12 never ended"),
    "a sleep ends twice": (
        replace(SOUND, rested=[*SOUND.rested, *SOUND.rested]),
        "D4: the sleep of a#12 ended 2 times",
    ),
    "a sleep ends unasked": (
        replace(SOUND, rested=[*SOUND.rested, ("a", 6)]),
        "D4: the sleep of a#6 ended, which nobody asked for",
    ),
    "a sleep ends early": (
        with_steps(StepRun("wake", ("a", 12), 8, STAMPED_MS + 7, "wake-a-12")),
        f"D4: the sleep of a#12 ended {REST_MS - 7} ms early",
    ),
    "a caller hears nothing": (replace(SOUND, heard=SOUND.heard[1:]), "D4: the answer to the call of a#9 never was"),
    "a caller hears twice": (
        replace(SOUND, heard=[*SOUND.heard, SOUND.heard[0]]),
        "D4: the answer to the call of a#9 was heard 2 times",
    ),
    "a caller hears something else": (
        replace(SOUND, heard=[replace(SOUND.heard[0], number=9), *SOUND.heard[1:]]),
        "D4: the call of a#9 was answered by 1, and its caller heard 9",
    ),
    "calls of one caller change places": (
        replace(SOUND, answered=[SOUND.answered[1], SOUND.answered[0], *SOUND.answered[2:]]),
        "D4: teller answered a#9 behind 18",
    ),
    "a call is counted twice": (
        replace(SOUND, answered=[*SOUND.answered[:-1], replace(SOUND.answered[-1], number=4)]),
        "D4: teller carried out 3 calls and did not count them from 1 to 3",
    ),
    "a call is lost": (replace(SOUND, answered=SOUND.answered[1:]), "D4: the call of a#9 never was carried out"),
    "a call is carried out twice": (
        replace(SOUND, answered=[*SOUND.answered, SOUND.answered[0]]),
        "D4: the call of a#9 was carried out 2 times",
    ),
    "a step is journaled twice": (
        with_journals(JournalEntry("inv_1", "run", "stamp"), JournalEntry("inv_1", "run", "stamp")),
        "D5: at kill 1 the journal of inv_1 had its stamp 2 times",
    ),
    "a result is journaled twice": (
        with_journals(JournalEntry("inv_1", "completion", "1"), JournalEntry("inv_1", "completion", "1")),
        "D5: at kill 1 the journal of inv_1 had 2 results of command 1",
    ),
    "a journaled result is not the final one": (
        with_journals(JournalEntry("inv_1", "completion", "1", ("stamp-x",))),
        "D5: at kill 1 the journal of inv_1 had stamp-x, which is not in the end",
    ),
    "an offset is reported ahead": (
        replace(SOUND, glimpses=[replace(AT_KILL, reported={0: 7})]),
        "D6: at kill 1 offset 7 of partition 0 was reported, but only 6 stored",
    ),
    "an offset of nothing stored is reported": (
        replace(SOUND, glimpses=[replace(AT_KILL, stored={})]),
        "D6: at kill 1 offset 3 of partition 0 was reported, but only 0 stored",
    ),
    "the end is not stored": (
        replace(SOUND, at_rest=replace(AT_REST, stored={0: 18, 1: 9})),
        "D6: at rest 9 is stored for partition 1, which ends at 10",
    ),
    "the end is not reported": (
        replace(SOUND, at_rest=replace(AT_REST, reported={0: 18})),
        "D6: at rest 0 is reported for partition 1, which ends at 10",
    ),
    "an invocation is left over": (replace(SOUND, at_rest=replace(AT_REST, live=1)), "D7: 1 invocations are left over"),
    "a message is left over": (
        replace(SOUND, at_rest=replace(AT_REST, outbox=2)),
        "D7: 2 messages are left over in the outbox",
    ),
    "a journal is left over": (
        replace(SOUND, at_rest=replace(AT_REST, journals=AT_KILL.journals)),
        "D7: 3 journal entries are left over",
    ),
}


def test_sound_evidence_passes() -> None:
    assert check(SOUND) == []


@pytest.mark.parametrize(
    "allowed",
    [
        with_more_messages(message_of(("a", 3), 90), message_of(("a", 4), 91)),
        with_steps(StepRun("stamp", ("a", 6), 8, STAMPED_MS + 900, "stamp-of-a-killed-process")),
    ],
    ids=["the same messages again", "a step again in another process"],
)
def test_what_at_least_once_allows_passes(allowed: Evidence) -> None:
    assert check(allowed) == []


@pytest.mark.parametrize("how", TAMPERED)
def test_tampered_evidence_is_found_out(how: str) -> None:
    evidence, expected = TAMPERED[how]
    violations = check(evidence)
    assert any(violation.startswith(expected) for violation in violations), violations


def test_every_rule_can_fail() -> None:
    assert {expected[:2] for _, expected in TAMPERED.values()} == {f"D{number}" for number in range(1, 8)}


@pytest.mark.parametrize("module", ["checker", "gathering", "plan", "traffic"])
def test_what_judges_knows_nothing_of_the_system_under_test(module: str) -> None:
    tree = ast.parse(Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8"))
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert names and not [name for name in names if name.startswith(("streamstate", "tests.durability.application"))]
