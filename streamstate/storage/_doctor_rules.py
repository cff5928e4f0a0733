"""What must hold between the rows of a data directory, as far as SQL can say it.

Each rule names rows that contradict others. None of them can come from a crash, since a turn is visible whole or not at
all (I5): they come from damage, from a tool that wrote to the database, or from a mistake in streamstate.
"""

from __future__ import annotations

from typing import Final

import msgspec

from streamstate.storage._schema import IN_LANE


class Rule(msgspec.Struct, frozen=True):
    """One rule.

    Attributes:
        code: its name, for programs.
        query: gives a label for each thing that breaks it.
        broken: what is wrong, for people.
        effect: what follows from it.
    """

    code: str
    query: str
    broken: str
    effect: str


_TARGET = "id || ' of ' || service || CASE key WHEN '' THEN '' ELSE '/' || key END || '.' || handler"
_THERE = "EXISTS (SELECT 1 FROM invocations AS other WHERE other.id = {})"
_ENDED = "EXISTS (SELECT 1 FROM invocations AS other WHERE other.id = {} AND other.status = 'completed')"

RULES: Final = (
    Rule(
        "journal-without-invocation",
        f"SELECT DISTINCT invocation FROM journal WHERE NOT {_THERE.format('journal.invocation')}",
        "a journal belongs to no invocation",
        "the invocation is lost, with what it still had to do",
    ),
    Rule(
        "journal-gap",
        "SELECT invocation FROM journal GROUP BY invocation HAVING max(position) <> count(*) - 1 OR min(position) <> 0",
        "entries are missing in a journal",
        "the engine stops when it reads it",
    ),
    Rule(
        "journal-missing",
        f"SELECT {_TARGET} FROM invocations WHERE status IN ('suspended', 'running') AND NOT EXISTS "
        "(SELECT 1 FROM journal WHERE journal.invocation = invocations.id)",
        "an invocation that has begun has no journal",
        "it would begin anew, or never go on",
    ),
    Rule(
        "undelivered",
        f"SELECT {_TARGET} FROM invocations WHERE undelivered > "
        "(SELECT count(*) FROM journal WHERE journal.invocation = invocations.id) OR undelivered < 0",
        "an invocation counts more arrivals than its journal has entries",
        "it cannot be replayed",
    ),
    Rule(
        "key-held-twice",
        f"SELECT service || '/' || key FROM invocations WHERE {IN_LANE} AND status <> 'pending' "
        "GROUP BY service, key HAVING count(*) > 1",
        "two invocations hold one key",
        "they would run at the same time, on the same state",
    ),
    Rule(
        "start-without-timer",
        f"SELECT {_TARGET} FROM invocations WHERE status = 'scheduled' AND NOT EXISTS (SELECT 1 FROM timers "
        "WHERE timers.invocation = invocations.id AND timers.kind = 'start' AND timers.fire_ms IS due_ms)",
        "a delayed invocation has no timer",
        "it will never start",
    ),
    Rule(
        "retry-without-timer",
        f"SELECT {_TARGET} FROM invocations WHERE status = 'backing-off' AND NOT EXISTS (SELECT 1 FROM timers "
        "WHERE timers.invocation = invocations.id AND (timers.kind = 'step' AND due_ms IS NULL OR "
        "timers.kind = 'retry' AND timers.fire_ms = due_ms))",
        "an invocation waits for its next attempt and has no timer",
        "it will never be tried again, and its key waits",
    ),
    Rule(
        "timer-without-invocation",
        f"SELECT kind || ' timer of ' || invocation FROM timers WHERE NOT {_THERE.format('timers.invocation')}",
        "a timer belongs to no invocation",
        "what it was to wake is lost",
    ),
    Rule(
        "timer-of-ended",
        "SELECT kind || ' timer of ' || invocation FROM timers WHERE kind IN ('sleep', 'start') AND "
        + _ENDED.format("timers.invocation"),
        "a timer belongs to an invocation that has ended",
        "nothing: it goes away when it fires",
    ),
    Rule(
        "timer-of-no-kind",
        "SELECT kind || ' timer of ' || invocation FROM timers WHERE kind NOT IN ('sleep', 'step', 'retry', 'start')",
        "a timer is of no known kind",
        "what it was to wake waits for ever",
    ),
    Rule(
        "waiter-without-invocation",
        f"SELECT invocation || ' for ' || awaited FROM waiters WHERE NOT {_THERE.format('waiters.invocation')}",
        "an invocation that is not there waits for something",
        "the invocation is lost, with what it still had to do",
    ),
    Rule(
        "waits-for-nothing",
        "SELECT invocation || ' for ' || awaited FROM waiters WHERE awaited NOT LIKE 'promise:%' AND "
        f"(NOT {_THERE.format('waiters.awaited')} OR {_ENDED.format('waiters.awaited')})",
        "an invocation waits for one that has ended or is not there",
        "it waits for ever",
    ),
    Rule(
        "waits-for-kept-promise",
        "SELECT waiters.invocation || ' for ' || waiters.awaited FROM promises JOIN waiters ON waiters.awaited = "
        "'promise:' || service || '/' || length(key) || ':' || key || '/' || name",
        "an invocation waits for a promise that is completed",
        "it waits for ever",
    ),
    Rule(
        "ended-without-end",
        f"SELECT {_TARGET} FROM invocations "
        "WHERE status = 'completed' AND (completed_ms IS NULL OR expires_ms IS NULL OR undelivered <> 0)",
        "an invocation has ended at no time, or is kept for ever",
        "it is never purged",
    ),
    Rule(
        "seq-twice",
        "SELECT 'seq ' || seq FROM invocations GROUP BY seq HAVING count(*) > 1",
        "two invocations have one place in the order of acceptance",
        "one of them may be passed over when its key is free",
    ),
    Rule(
        "seq-ahead",
        f"SELECT {_TARGET} FROM invocations WHERE seq > (SELECT max(seq) FROM meta)",
        "an invocation has a place in the order that was never given",
        "its place may be given again",
    ),
    Rule(
        "outbox-ahead",
        "SELECT cluster || ', position ' || position FROM outbox "
        "WHERE position > (SELECT max(outbox_position) FROM meta)",
        "a message has a place in the outbox that was never given",
        "its place may be given again, which stops the engine",
    ),
    Rule(
        "position-below-zero",
        "SELECT subscription || ', ' || topic || '[' || partition || ']' FROM positions WHERE next_offset < 0",
        "a source position is below zero",
        "the subscription cannot go on",
    ),
)
