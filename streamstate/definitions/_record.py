"""One record of a topic, as a source hands it over and as `ctx.record` shows it."""

from __future__ import annotations

import msgspec


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record of a topic.

    Attributes:
        topic: the topic's name.
        partition: the partition's number.
        offset: the record's offset in its partition.
        timestamp_ms: Kafka's timestamp, milliseconds since the epoch; -1 where there is none.
        key: the raw key, or None.
        value: the raw value; None is a tombstone.
        headers: the headers in their order; a header may have no value.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
