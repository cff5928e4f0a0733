"""Compares a run with crashes to the run without.

What a crash may change, and why; everything else must be the same:

C1  How often a step ran whose result was not durable: its action is at least once, by one more for each crash.
C2  How often a message was published: the engine does not know whether one whose acknowledgement was lost has arrived.
    Its id is the same each time, and so a reader can drop it.
C3  How many attempts of a handler or a step have failed, and when the next one comes: of an attempt whose failure was
    not durable nothing is known. So moments (created, started, completed, expires), the order number of an invocation
    (`seq`) and `attempt` are not compared; failure texts lose their stack and the number of the attempt.
C4  When a caller hears an answer, and how often; never what it hears.
C5  Which of several keys comes first. Per key, per message key and within an invocation the order is the same.
C6  Where arrivals that a handler never looked at stand in its journal. Journals of what has ended are not compared;
    what they decided is: steps, state, messages, results.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from streamstate.engine import OutboxMessage
from streamstate.storage import InvocationRow
from tests.crashes.outside import Effect
from tests.crashes.perform import Performance

_ATTEMPT = re.compile(r"\(attempt \d+ was the last\)|after attempt \d+")


class Kept(NamedTuple):
    """What must be the same of an invocation that the store keeps."""

    target: str
    key: str
    status: str
    result: bytes | None
    failure: tuple[int, str] | None
    idempotency_key: str | None
    undelivered: int


def kept_of(row: InvocationRow) -> Kept:
    """C3."""
    failure = None if row.failure is None else (row.failure.code, _ATTEMPT.sub("", row.failure.message))
    target = f"{row.service}/{row.handler}"
    return Kept(target, row.key, str(row.status), row.result, failure, row.idempotency_key, row.undelivered)


def judge(reference: Performance, run: Performance) -> list[str]:
    """What is wrong with the run; nothing, if all is well."""
    crashes = len(run.crashes)
    return [
        *run.problems,
        *_same("answers", _answers(reference), _answers(run)),
        *_same("state", reference.content.state, run.content.state),
        *_same("promises", reference.content.promises, run.content.promises),
        *_same("positions", reference.content.positions, run.content.positions),
        *_same("invocations", _invocations(reference), _invocations(run)),
        *_same("timers", _timers(reference), _timers(run)),
        *_same("waiters", reference.content.waiters, run.content.waiters),
        *_same("outbox", reference.content.outbox, run.content.outbox),
        *_messages(reference.messages, run.messages, crashes),
        *_steps(reference.effects, run.effects, crashes),
        *_order(reference, run),
    ]


def _same(what: str, expected: Any, found: Any) -> list[str]:
    if expected == found:
        return []
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        names = [each for each in expected.keys() | found.keys() if expected.get(each) != found.get(each)]
        return [f"{what}: {each}: {found.get(each)!r}, without crash {expected.get(each)!r}" for each in names]
    return [f"{what}: {found!r}, without crash {expected!r}"]


def _answers(run: Performance) -> dict[str, Any]:
    return {
        label: answer._replace(value=_ATTEMPT.sub("", answer.value)) if answer.kind != "result" else answer
        for label, answer in run.answers.items()
    }


def _invocations(run: Performance) -> dict[str, Kept]:
    return {name: kept_of(row) for name, row in run.content.invocations.items() if row is not None}


def _timers(run: Performance) -> list[tuple[str, str, int]]:
    return sorted(row.id for row in run.content.timers)


def _messages(expected: Sequence[OutboxMessage], found: Sequence[OutboxMessage], crashes: int) -> list[str]:
    """C2, C5: every message, with its own id; each again at most once per crash; and in their order."""
    problems = _same("messages", _contents(expected), _contents(found))
    problems += _at_most("message", Counter(each.message_id for each in found), 1, crashes)
    first = list({each.message_id: each.position for each in reversed(found)}.values())[::-1]
    if first != sorted(first):
        problems.append(f"messages: first deliveries are of the positions {first}, not in their order")
    return problems + _same("order of messages", _by_key(expected), _by_key(found))


def _contents(messages: Iterable[OutboxMessage]) -> dict[str, Any]:
    contents: dict[str, Any] = {}
    for each in messages:
        content = (each.topic, each.key, each.value, each.headers)
        if contents.setdefault(each.message_id, content) != content:
            contents[each.message_id] = f"two messages of one id: {contents[each.message_id]} and {content}"
    return contents


def _by_key(messages: Iterable[OutboxMessage]) -> dict[Any, list[str]]:
    by_key: dict[Any, dict[str, None]] = {}
    for each in messages:
        by_key.setdefault((each.topic, each.key), {})[each.message_id] = None
    return {key: list(ids) for key, ids in by_key.items()}


def _steps(expected: Sequence[Effect], found: Sequence[Effect], crashes: int) -> list[str]:
    """C1; that a durable result is final is the witness's to see, at the moment when a step begins."""
    wanted, counted = (Counter((each.invocation, each.step) for each in effects) for effects in (expected, found))
    problems = [f"step {step} ran, and not without crash" for step in counted.keys() - wanted.keys()]
    problems += [f"step {step} never ran" for step in wanted.keys() - counted.keys()]
    for step, times in wanted.items():
        problems += _at_most("step", {step: counted[step]}, times, crashes)
    return problems


def _at_most(what: str, counted: Mapping[Any, int], times: int, crashes: int) -> list[str]:
    return [
        f"{what} {name}: {count} times in {crashes} crashes, without crash {times}"
        for name, count in counted.items()
        if count > times + crashes
    ]


def _order(expected: Performance, found: Performance) -> list[str]:
    """C5: on each key one invocation after the other, none beside another, and in the same order."""
    return _same("order per key", _turns(expected), _turns(found))


def _turns(run: Performance) -> dict[Any, list[str]]:
    turns: dict[Any, list[str]] = {}
    for effect in run.effects:
        if effect.holder is not None:
            turns.setdefault(effect.holder, []).append(effect.invocation)
    return {key: [invocation for invocation, _ in groupby(invocations)] for key, invocations in turns.items()}
