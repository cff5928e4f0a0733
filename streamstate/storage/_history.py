"""What happened to a data directory as a whole: the few events that are no commits."""

from __future__ import annotations

from typing import Literal, TypeAlias

import apsw
import msgspec

from streamstate.storage._glance import ask


class Upgraded(msgspec.Struct, frozen=True, tag="upgraded", tag_field="event"):
    """Its format was raised."""

    from_version: int
    to_version: int


class Restored(msgspec.Struct, frozen=True, tag="restored", tag_field="event"):
    """It was made of a backup.

    Attributes:
        until_ms: the latest durable moment that the backup holds.
        taken_epoch: the owner epoch of the directory when the backup was taken.
        outbox: what was decided about the messages in it. messages: how many there were.
    """

    until_ms: int
    taken_epoch: int
    outbox: Literal["keep", "drop"]
    messages: int


Event: TypeAlias = Upgraded | Restored


class HistoryRow(msgspec.Struct, frozen=True):
    """One event. epoch: the owner epoch that was current after it."""

    at_ms: int
    epoch: int
    event: Event


_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def note(connection: apsw.Connection, event: Event, at_ms: int) -> None:
    """Add an event, in the transaction that is open."""
    connection.execute(
        "INSERT INTO history (at_ms, event, epoch, detail) SELECT ?, ?, epoch, ? FROM meta",
        (at_ms, str(event.__struct_config__.tag), msgspec.json.encode(event).decode()),
    )


def history_of(connection: apsw.Connection) -> list[HistoryRow]:
    """All events, in their order.

    Raises:
        msgspec.MsgspecError: one does not decode.
    """
    rows = ask(connection, "SELECT at_ms, epoch, detail FROM history ORDER BY ordinal")
    return [HistoryRow(at_ms, epoch, _decoder.decode(detail)) for at_ms, epoch, detail in rows]


def restored_epoch(connection: apsw.Connection) -> int:
    """The owner epoch that the last restore gave; 0 if the directory was never restored."""
    (row,) = ask(connection, "SELECT ifnull(max(epoch), 0) FROM history WHERE event = 'restored'")
    return int(row[0])
