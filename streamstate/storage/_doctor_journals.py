"""Reads every invocation and every journal: does it decode, and will something wake what waits?"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import apsw
import msgspec

from streamstate.journal import (
    Command,
    Entry,
    Kind,
    child_identity,
    keyed_identity,
    pending_in,
    workflow_identity,
)
from streamstate.storage._codec import entry_of, invocation_of, message_of, outcome_of
from streamstate.storage._glance import ask
from streamstate.storage._rows import Status
from streamstate.storage._schema import INVOCATION_COLUMNS

_INVOCATIONS = f"SELECT {', '.join(INVOCATION_COLUMNS)} FROM invocations"
_JOURNALS = (
    "SELECT journal.invocation, entry, status, undelivered FROM journal "
    "LEFT JOIN invocations ON invocations.id = journal.invocation ORDER BY journal.invocation, position"
)
_POSITIONS = "SELECT subscription, topic, partition, max(next_offset) FROM positions GROUP BY 1, 2, 3"
_OUTBOX = "SELECT cluster, position, topic, key, value, headers, message_id FROM outbox"
_PROMISES = "SELECT value, failure, service, key, name FROM promises"
_IS_LIVE = "SELECT 1 FROM invocations WHERE id = ? AND status <> 'completed'"
_IS_WAITER = "SELECT 1 FROM waiters WHERE invocation = ? AND idx = ?"
_HAS_TIMER = "SELECT 1 FROM timers WHERE invocation = ? AND kind = 'sleep' AND idx = ?"

_UNDECODABLE = (msgspec.MsgspecError, ValueError, TypeError)

Flaw = tuple[str, str]
"""The code of a rule, and what breaks it."""


def flaws(connection: apsw.Connection) -> Iterator[Flaw]:
    """Everything that is wrong with single rows."""
    yield from _of_invocations(connection)
    yield from _of_journals(connection)
    for row in connection.execute(_OUTBOX):
        try:
            message_of(row)
        except _UNDECODABLE as error:
            yield "undecodable", f"the message at {row[0]}, position {row[1]}: {error}"
    for row in connection.execute(_PROMISES):
        try:
            outcome_of(row[:2])
        except _UNDECODABLE as error:
            yield "undecodable", f"the promise {row[2]}/{row[3]}/{row[4]}: {error}"


def _of_invocations(connection: apsw.Connection) -> Iterator[Flaw]:
    positions = {row[:3]: row[3] for row in ask(connection, _POSITIONS)}
    for row in connection.execute(_INVOCATIONS):
        try:
            invocation = invocation_of(row)
        except _UNDECODABLE as error:
            yield "undecodable", f"the invocation {row[0]}: {error}"
            continue
        origin = invocation.origin
        if origin.subscription:
            place = (origin.subscription, origin.topic, origin.partition)
            if positions.get(place, -1) <= origin.offset:
                yield "position-behind", f"{invocation.id} of {origin.topic}[{origin.partition}] at {origin.offset}"


def _of_journals(connection: apsw.Connection) -> Iterator[Flaw]:
    for (invocation, status, undelivered), rows in groupby(
        connection.execute(_JOURNALS), key=lambda row: (str(row[0]), row[2], row[3])
    ):
        try:
            entries = [entry_of(row[1]) for row in rows]
        except _UNDECODABLE as error:
            yield "undecodable", f"the journal of {invocation}: {error}"
            continue
        behind = entries[-undelivered:] if isinstance(undelivered, int) and undelivered > 0 else ()
        if any(isinstance(entry, Command) for entry in behind):
            yield "undelivered-command", invocation
        if status is not None and status != Status.COMPLETED:
            yield from _of_waiting(connection, invocation, status == Status.SUSPENDED, entries)


def _of_waiting(
    connection: apsw.Connection, invocation: str, is_suspended: bool, entries: list[Entry]
) -> Iterator[Flaw]:
    """Whether each result that it waits for will come."""
    pending = pending_in(entries)
    will_wake = not is_suspended
    for index, command in pending.items():
        if command.kind in (Kind.CALL, Kind.ATTACH, Kind.PROMISE):
            will_wake = True
            if not _is_coming(connection, invocation, index, command):
                yield "result-lost", f"{invocation}, command {index}: {command.kind} {command.name}"
        elif command.kind == Kind.SLEEP:
            # A timer that was cancelled has no row either: only if nothing else wakes it can one tell.
            will_wake = will_wake or bool(ask(connection, _HAS_TIMER, (invocation, index)))
        elif command.kind in (Kind.AWAKEABLE, Kind.SIGNAL):
            will_wake = True
    if not will_wake:
        yield "never-woken", f"{invocation}, waits for {_listed(pending)}"


def _is_coming(connection: apsw.Connection, invocation: str, index: int, command: Command) -> bool:
    if ask(connection, _IS_WAITER, (invocation, index)):
        return True
    if command.kind != Kind.CALL:
        return False
    service, _, handler = command.name.partition("/")
    callees = [child_identity(invocation, index), workflow_identity(service, command.key or "")]
    idempotency_key = (command.options or {}).get("idempotency_key")
    if idempotency_key is not None:
        callees.append(keyed_identity(service, handler, command.key or "", str(idempotency_key)))
    return any(ask(connection, _IS_LIVE, (callee,)) for callee in callees)


def _listed(pending: dict[int, Command]) -> str:
    return ", ".join(f"{command.kind} {command.name}".strip() for command in pending.values()) or "nothing"
