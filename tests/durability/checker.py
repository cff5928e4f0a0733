"""What must hold after any crash, checked against evidence from outside: SQL, the topics and the producer's own log.

Imports nothing of the system under test.

D1  Nothing is lost and nothing is applied twice: count, last sequence and digest chain of each key are those of its
    records in their order.
D2  Every record has its message in the output topic, under its key; what is there twice is the same message twice, and
    first occurrences are in the key's order.
D3  A step ran at least once, at most once in each process, and one and the same result of it is seen everywhere.
D4  Delayed sends arrived exactly once and not early. Sleeps ended exactly once and, by the clock outside, not early.
    Calls were carried out exactly once, in the order of their caller, and the caller heard what was answered.
D5  A journal holds a step and its result once, and a result that was ever in a journal is the final one.
D6  Reported offsets never pass the stored positions, and at rest both are the ends of the partitions.
D7  At rest nothing is left over: no live invocation, no message in the outbox.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.durability.plan import REST_MS, has_call, has_reminder, has_rest, has_step

CLOCKS_APART_MS = 2  # the engine's clock and the one outside, both in whole milliseconds
STEPS: dict[str, Callable[[int], bool]] = {"stamp": has_step, "wake": has_rest}

EventId = tuple[str, int]  # key, sequence


@dataclass(frozen=True, slots=True)
class Book:
    count: int
    last: int
    digest: str


@dataclass(frozen=True, slots=True)
class StepRun:
    """One line that a step's action left outside; at_ms is by the clock there."""

    step: str
    event: EventId
    process: int
    at_ms: int
    stamp: str


@dataclass(frozen=True, slots=True)
class Reminded:
    event: EventId
    late_ms: int


@dataclass(frozen=True, slots=True)
class Answered:
    """One call, seen by the one that was called, which counts its calls."""

    event: EventId
    stamp: str
    teller: str
    number: int


@dataclass(frozen=True, slots=True)
class Heard:
    """One call, seen by its caller."""

    event: EventId
    number: int


@dataclass(frozen=True, slots=True)
class Published:
    """One message of the output topic."""

    partition: int
    offset: int
    event: EventId
    message_id: str
    digest: str
    stamp: str


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """stamps: all that occur in the entry's bytes."""

    invocation: str
    kind: str
    name: str
    stamps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Glimpse:
    """The store between a kill and the next start. `reported` was read before `stored`."""

    reported: Mapping[int, int]
    stored: Mapping[int, int]
    ends: Mapping[int, int]
    live: int
    outbox: int
    journals: tuple[JournalEntry, ...] = ()

    @property
    def has_work(self) -> bool:
        """Whether anything was begun and not ended: invocations, with their sleeps, steps and calls, or messages."""
        return self.live > 0 or self.outbox > 0

    @property
    def lag(self) -> int:
        return sum(end - self.stored.get(partition, 0) for partition, end in self.ends.items())


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything at rest.

    Attributes:
        sent: how many records of each key the broker acknowledged; their sequences are 1, 2, 3 and so on.
        ends: the end of each partition of the input topic.
        stamps: per step, the results in the state.
        rested: whose sleep ended.
        answered: in the order in which each teller carried them out for each caller.
        at_rest: the store at the end; glimpses: the store after each kill.
    """

    sent: Mapping[str, int]
    ends: Mapping[int, int]
    books: Mapping[str, Book]
    stamps: Mapping[str, Mapping[EventId, str]]
    reminded: Sequence[Reminded]
    rested: Sequence[EventId]
    answered: Sequence[Answered]
    heard: Sequence[Heard]
    steps: Sequence[StepRun]
    published: Sequence[Published]
    at_rest: Glimpse
    glimpses: Sequence[Glimpse] = ()

    def events(self) -> Iterator[EventId]:
        """Every event, in order for each key."""
        return ((key, sequence) for key, count in self.sent.items() for sequence in range(1, count + 1))


def check(evidence: Evidence) -> list[str]:
    """Every violation, a sentence each."""
    chains = _chains(evidence)
    return [
        *_books(evidence, chains),
        *_messages(evidence, chains),
        *_order(evidence),
        *_steps(evidence),
        *_results_elsewhere(evidence),
        *_reminders(evidence),
        *_rests(evidence),
        *_calls(evidence),
        *_journals(evidence),
        *_offsets(evidence),
        *_left_over(evidence.at_rest),
    ]


def _chains(evidence: Evidence) -> dict[EventId, str]:
    """The digest that each key must have after each of its events."""
    chains = {}
    for key, count in evidence.sent.items():
        digest = ""
        for sequence in range(1, count + 1):
            digest = hashlib.sha256(f"{digest}/{sequence}".encode()).hexdigest()
            chains[key, sequence] = digest
    return chains


def _books(evidence: Evidence, chains: Mapping[EventId, str]) -> Iterator[str]:
    """D1."""
    for key in sorted(evidence.sent.keys() | evidence.books.keys()):
        sent, book = evidence.sent.get(key, 0), evidence.books.get(key, Book(0, 0, ""))
        if book.count != sent:
            yield f"D1: {key} counts {book.count} events; {sent} were sent"
        elif book.last != sent:
            yield f"D1: the last event of {key} is {book.last}; the last one sent is {sent}"
        elif book.digest != chains.get((key, sent), ""):
            yield f"D1: {key} has seen its {sent} events in another order, or one of them twice and another not at all"


def _messages(evidence: Evidence, chains: Mapping[EventId, str]) -> Iterator[str]:
    """D2, but for the order."""
    by_event: defaultdict[EventId, set[Published]] = defaultdict(set)
    events_of: defaultdict[str, set[EventId]] = defaultdict(set)
    for message in evidence.published:
        by_event[message.event].add(message)
        events_of[message.message_id].add(message.event)
        if message.event not in chains:
            yield f"D2: there is a message about {_named(message.event)}, which was never sent"
        elif message.digest != chains[message.event]:
            yield f"D2: the message about {_named(message.event)} was made from a state that never was"
        if not message.message_id:
            yield f"D2: the message about {_named(message.event)} has no message id"
    for event in evidence.events():
        if event not in by_event:
            yield f"D2: there is no message about {_named(event)}"
        if len({message.message_id for message in by_event[event]}) > 1:
            yield f"D2: {_named(event)} was published under several message ids"
        if len({message.partition for message in by_event[event]}) > 1:
            yield f"D2: {_named(event)} was published to several partitions"
    for message_id, events in sorted(events_of.items()):
        if len(events) > 1:
            yield f"D2: message id {message_id} stands for {', '.join(map(_named, sorted(events)))}"


def _order(evidence: Evidence) -> Iterator[str]:
    """D2: first occurrences."""
    seen: defaultdict[str, list[int]] = defaultdict(list)
    known: set[EventId] = set()
    for message in sorted(evidence.published, key=lambda each: (each.partition, each.offset)):
        if message.event not in known:
            known.add(message.event)
            seen[message.event[0]].append(message.event[1])
    for key, sequences in sorted(seen.items()):
        for before, after in itertools.pairwise(sequences):
            if after < before:
                yield f"D2: the first message about {_named((key, after))} is behind that about {before}"


def _steps(evidence: Evidence) -> Iterator[str]:
    """D3."""
    for step, has in STEPS.items():
        wanted = {event for event in evidence.events() if has(event[1])}
        runs = [run for run in evidence.steps if run.step == step]
        results = evidence.stamps.get(step, {})
        left: defaultdict[EventId, set[str]] = defaultdict(set)
        for run in runs:
            left[run.event].add(run.stamp)
        for (event, process), times in sorted(Counter((run.event, run.process) for run in runs).items()):
            if times > 1:
                yield f"D3: the {step} of {_named(event)} ran {times} times in process {process}"
        yield from _differences(f"D3: the {step} of", "ran", wanted, left)
        yield from _differences(f"D3: a result of the {step} of", "is in the state", wanted, results)
        for event in sorted(wanted & left.keys() & results.keys()):
            if results[event] not in left[event]:
                yield f"D3: the result of the {step} of {_named(event)} in the state is of no run of it"


def _results_elsewhere(evidence: Evidence) -> Iterator[str]:
    """D3."""
    stamps = evidence.stamps.get("stamp", {})
    places: list[tuple[str, Sequence[Published] | Sequence[Answered]]] = [
        ("a message", evidence.published),
        ("a call", evidence.answered),
    ]
    for place, seen in places:
        for each in seen:
            if each.stamp != stamps.get(each.event, ""):
                yield f"D3: {place} has another result of the stamp of {_named(each.event)} than the state"


def _reminders(evidence: Evidence) -> Iterator[str]:
    """D4."""
    wanted = {event for event in evidence.events() if has_reminder(event[1])}
    arrived = Counter(reminded.event for reminded in evidence.reminded)
    yield from _differences("D4: the delayed send of", "arrived", wanted, arrived)
    yield from _repeated("D4: the delayed send of", "arrived", arrived)
    for reminded in evidence.reminded:
        if reminded.late_ms < 0:
            yield f"D4: the delayed send of {_named(reminded.event)} arrived {-reminded.late_ms} ms early"


def _rests(evidence: Evidence) -> Iterator[str]:
    """D4."""
    wanted = {event for event in evidence.events() if has_rest(event[1])}
    ended = Counter(evidence.rested)
    yield from _differences("D4: the sleep of", "ended", wanted, ended)
    yield from _repeated("D4: the sleep of", "ended", ended)
    # What the sleep followed is the run of the stamp whose result was kept; what followed it, any run of the wake.
    kept = set(evidence.stamps.get("stamp", {}).items())
    began_ms = {run.event: run.at_ms for run in evidence.steps if (run.event, run.stamp) in kept}
    for run in evidence.steps:
        early_ms = began_ms.get(run.event, run.at_ms) + REST_MS - run.at_ms
        if run.step == "wake" and early_ms > CLOCKS_APART_MS and run.event in began_ms:
            yield f"D4: the sleep of {_named(run.event)} ended {early_ms} ms early"


def _calls(evidence: Evidence) -> Iterator[str]:
    """D4."""
    wanted = {event for event in evidence.events() if has_call(event[1])}
    carried_out = Counter(answer.event for answer in evidence.answered)
    yield from _differences("D4: the call of", "was carried out", wanted, carried_out)
    yield from _repeated("D4: the call of", "was carried out", carried_out)
    heard = Counter(each.event for each in evidence.heard)
    yield from _differences("D4: the answer to the call of", "was heard", wanted, heard)
    yield from _repeated("D4: the answer to the call of", "was heard", heard)
    told = {answer.event: answer.number for answer in evidence.answered}
    for each in evidence.heard:
        if each.number != told.get(each.event, each.number):
            number = told[each.event]
            yield f"D4: the call of {_named(each.event)} was answered by {number}, and its caller heard {each.number}"
    last: dict[tuple[str, str], int] = {}
    counts: Counter[str] = Counter()
    numbers: defaultdict[str, set[int]] = defaultdict(set)
    for answer in evidence.answered:
        key, sequence = answer.event
        if sequence < last.get((answer.teller, key), 0):
            yield f"D4: {answer.teller} answered {_named(answer.event)} behind {last[answer.teller, key]}"
        last[answer.teller, key] = sequence
        counts[answer.teller] += 1
        numbers[answer.teller].add(answer.number)
    for teller, count in sorted(counts.items()):
        if numbers[teller] != set(range(1, count + 1)):
            yield f"D4: {teller} carried out {count} calls and did not count them from 1 to {count}"


def _journals(evidence: Evidence) -> Iterator[str]:
    """D5."""
    final = {stamp for stamps in evidence.stamps.values() for stamp in stamps.values()}
    for number, glimpse in enumerate(evidence.glimpses, start=1):
        steps = Counter((entry.invocation, entry.name) for entry in glimpse.journals if entry.kind == "run")
        results = Counter((entry.invocation, entry.name) for entry in glimpse.journals if entry.kind == "completion")
        for (invocation, step), times in steps.items():
            if times > 1:
                yield f"D5: at kill {number} the journal of {invocation} had its {step} {times} times"
        for (invocation, index), times in results.items():
            if times > 1:
                yield f"D5: at kill {number} the journal of {invocation} had {times} results of command {index}"
        for entry in glimpse.journals:
            for stamp in entry.stamps:
                if stamp not in final:
                    yield f"D5: at kill {number} the journal of {entry.invocation} had {stamp}, which is not in the end"


def _offsets(evidence: Evidence) -> Iterator[str]:
    """D6."""
    for number, glimpse in enumerate([*evidence.glimpses, evidence.at_rest], start=1):
        when = f"at kill {number}" if number <= len(evidence.glimpses) else "at rest"
        for partition, offset in sorted(glimpse.reported.items()):
            stored = glimpse.stored.get(partition, 0)
            if offset > stored:
                yield f"D6: {when} offset {offset} of partition {partition} was reported, but only {stored} stored"
    for partition, end in sorted(evidence.ends.items()):
        for what, offsets in (("stored", evidence.at_rest.stored), ("reported", evidence.at_rest.reported)):
            offset = offsets.get(partition, 0)
            if offset != end:
                yield f"D6: at rest {offset} is {what} for partition {partition}, which ends at {end}"


def _left_over(at_rest: Glimpse) -> Iterator[str]:
    """D7."""
    if at_rest.live:
        yield f"D7: {at_rest.live} invocations are left over"
    if at_rest.outbox:
        yield f"D7: {at_rest.outbox} messages are left over in the outbox"
    if at_rest.journals:
        yield f"D7: {len(at_rest.journals)} journal entries are left over"


def _differences(what: str, did: str, wanted: set[EventId], found: Iterable[EventId]) -> Iterator[str]:
    there = set(found)
    for event in sorted(wanted - there):
        yield f"{what} {_named(event)} never {did}"
    for event in sorted(there - wanted):
        yield f"{what} {_named(event)} {did}, which nobody asked for"


def _repeated(what: str, did: str, times_of: Mapping[EventId, int]) -> Iterator[str]:
    for event, times in sorted(times_of.items()):
        if times > 1:
            yield f"{what} {_named(event)} {did} {times} times"


def _named(event: EventId) -> str:
    return f"{event[0]}#{event[1]}"
