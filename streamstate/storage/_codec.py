"""Rows to columns and back."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from streamstate.journal import Arrival, CancelArrived, Command, Entry, Failure, Outcome, SignalArrived, Success
from streamstate.storage._rows import InvocationRow, Origin, OutboxMessage, Status

SqlValue: TypeAlias = int | float | str | bytes | None
Row: TypeAlias = tuple[Any, ...]  # what a SELECT gives; the readers below put the types back


class _Command(msgspec.Struct, frozen=True, array_like=True, tag="command"):
    """A `Command` as bytes: msgspec decodes no type that is a string or bytes, though msgpack knows which it is."""

    kind: str
    name: str
    key: str | None
    body: bytes | None
    options: dict[str, Any] | None
    result: Outcome | None
    site: str


_entry_decoder: msgspec.msgpack.Decoder[_Command | Arrival] = msgspec.msgpack.Decoder(_Command | Arrival)
_headers_decoder = msgspec.msgpack.Decoder(tuple[tuple[str, bytes], ...])
_origin_decoder = msgspec.json.Decoder(Origin)
_failure_decoder = msgspec.json.Decoder(Failure)


def entry_columns(entry: Entry) -> tuple[str, str, bytes]:
    """Kind and name, as the views show them, and the whole entry."""
    encoded = msgspec.msgpack.encode(entry)
    if isinstance(entry, Command):
        return entry.kind, entry.name, encoded
    if isinstance(entry, SignalArrived):
        return "signal-arrived", entry.name, encoded
    if isinstance(entry, CancelArrived):
        return "cancel-arrived", "", encoded
    return "completion", str(entry.index), encoded


def entry_of(encoded: bytes) -> Entry:
    """The inverse of the last of `entry_columns`."""
    entry = _entry_decoder.decode(encoded)
    if isinstance(entry, _Command):
        return Command(entry.kind, entry.name, entry.key, entry.body, entry.options, entry.result, entry.site)
    return entry


def invocation_columns(row: InvocationRow) -> tuple[SqlValue, ...]:
    """In the order of `INVOCATION_COLUMNS`."""
    return (
        row.id,
        row.seq,
        row.service,
        row.handler,
        row.key,
        1 if row.lane else 0,
        row.status.value,
        row.input,
        _json(row.origin),
        row.created_ms,
        row.started_ms,
        row.attempt,
        row.first_failed_ms,
        row.due_ms,
        None if row.failure is None else _json(row.failure),
        row.result,
        row.completed_ms,
        row.expires_ms,
        row.idempotency_key,
        row.undelivered,
    )


def invocation_of(row: Row) -> InvocationRow:
    """The inverse of `invocation_columns`."""
    *first, lane, status, payload, origin = row[:9]
    *times, failure = row[9:15]
    result, completed_ms, expires_ms, idempotency_key, undelivered = row[15:]
    identity, seq, service, handler, key = first
    created_ms, started_ms, attempt, first_failed_ms, due_ms = times
    return InvocationRow(
        identity,
        seq,
        service,
        handler,
        key,
        bool(lane),
        Status(status),
        payload,
        _origin_decoder.decode(origin),
        created_ms,
        started_ms,
        attempt,
        first_failed_ms,
        due_ms,
        None if failure is None else _failure_decoder.decode(failure),
        result,
        completed_ms,
        expires_ms,
        idempotency_key,
        undelivered,
    )


def outcome_columns(outcome: Outcome) -> tuple[bytes | None, str | None]:
    """Value and failure; a success has no failure."""
    if isinstance(outcome, Success):
        return outcome.value, None
    return None, _json(outcome)


def outcome_of(row: Row) -> Outcome:
    value, failure = row
    return Success(value) if failure is None else _failure_decoder.decode(failure)


def message_columns(message: OutboxMessage) -> tuple[SqlValue, ...]:
    return (
        message.cluster,
        message.position,
        message.topic,
        message.key,
        message.value,
        msgspec.msgpack.encode(message.headers),
        message.message_id,
    )


def message_of(row: Row) -> OutboxMessage:
    cluster, position, topic, key, value, headers, message_id = row
    return OutboxMessage(position, cluster, topic, key, value, _headers_decoder.decode(headers), message_id)


def _json(value: msgspec.Struct) -> str:
    return msgspec.json.encode(value).decode()
