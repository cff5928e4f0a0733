"""Collects the evidence: from the store by SQL, from the topics by a plain client, from the file outside.

Like the checker it imports nothing of the system under test.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
from confluent_kafka import Consumer, KafkaException, TopicPartition

from tests.brokers import Broker
from tests.durability.checker import (
    STEPS,
    Answered,
    Book,
    Evidence,
    Glimpse,
    Heard,
    JournalEntry,
    Published,
    Reminded,
    StepRun,
)
from tests.durability.plan import MESSAGE_ID_HEADER

READ_S_MAX = 30.0
BUSY_MS = 5_000
STAMP = re.compile(rb"stamp-[0-9a-f]{32}")

POSITIONS = "SELECT partition, next_offset FROM positions"
LIVE = "SELECT count(*) FROM sys_invocation WHERE status <> 'completed'"
OUTBOX = "SELECT count(*) FROM outbox"
JOURNALS = 'SELECT id, entry_type, name, raw FROM sys_journal ORDER BY id, "index"'
STATE = "SELECT service_key, key, value FROM state WHERE service_name = ?"


@contextmanager
def snapshot(data: Path) -> Iterator[apsw.Connection]:
    """The store at one moment, for reading; works beside its owner, and after its death."""
    connection = apsw.Connection(str(data / "streamstate.db"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        connection.set_busy_timeout(BUSY_MS)
        # What the owner left in its log is the owner's to fold in.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.execute("BEGIN")
        yield connection
    finally:
        connection.close()


def count_in(store: apsw.Connection, query: str) -> int:
    return int(store.execute(query).fetchall()[0][0])  # type: ignore[arg-type]  # a count is an integer


def has_store(data: Path) -> bool:
    """Whether there is a store already, with its tables."""
    if not (data / "streamstate.db").exists():
        return False
    with snapshot(data) as store:
        return count_in(store, "SELECT count(*) FROM sqlite_schema WHERE name = 'sys_invocation'") == 1


def positions(store: apsw.Connection) -> dict[int, int]:
    rows: list[tuple[Any, ...]] = store.execute(POSITIONS).fetchall()
    return {int(partition): int(offset) for partition, offset in rows}


def directory_id(store: apsw.Connection) -> str:
    return str(store.execute("SELECT directory_id FROM meta").fetchall()[0][0])


def is_whole(data: Path) -> bool:
    """SQLite's own check of every page and index."""
    with snapshot(data) as store:
        return store.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def glimpse(data: Path, reported: Mapping[int, int], ends: Mapping[int, int]) -> Glimpse:
    """The store now; `reported` must have been read before."""
    with snapshot(data) as store:
        rows: list[tuple[Any, ...]] = store.execute(JOURNALS).fetchall()
        return Glimpse(
            dict(reported),
            positions(store),
            dict(ends),
            count_in(store, LIVE),
            count_in(store, OUTBOX),
            tuple(
                JournalEntry(invocation, kind, name, tuple(stamp.decode() for stamp in STAMP.findall(raw)))
                for invocation, kind, name, raw in rows
            ),
        )


def is_settled(data: Path, ends: Mapping[int, int]) -> bool:
    """Nothing is under way: in one snapshot all records are decided, all invocations ended, all messages gone."""
    with snapshot(data) as store:
        return positions(store) == ends and not count_in(store, LIVE) and not count_in(store, OUTBOX)


def reported(broker: Broker, group: str, topic: str, partitions: int) -> dict[int, int]:
    """What lag tools see: the offsets that were reported to the consumer group.

    By a consumer, since librdkafka's admin client may crash at this question when the broker has been away.
    """
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": group, "log_level": 0})
    asked = [TopicPartition(topic, number) for number in range(partitions)]
    deadline = time.monotonic() + READ_S_MAX
    try:
        while True:
            try:
                found = consumer.committed(asked, timeout=READ_S_MAX)
            except KafkaException:
                # A broker that has just started is still loading its groups.
                if time.monotonic() > deadline:
                    raise
            else:
                return {each.partition: each.offset for each in found if each.offset >= 0}
    finally:
        consumer.close()


def evidence(
    data: Path, outside: Path, published: Sequence[Published], sent: Mapping[str, int], glimpses: Sequence[Glimpse]
) -> Evidence:
    """Everything at rest; the last glimpse is the one at rest."""
    *earlier, at_rest = glimpses
    with snapshot(data) as store:
        ledgers, reminders, tellers = (_state(store, service) for service in ("Ledger", "Reminders", "Teller"))
    return Evidence(
        sent=dict(sent),
        ends=at_rest.ends,
        books={key: Book(**value) for key, name, value in ledgers if name == "book"},
        stamps={
            step: {
                (key, int(name.removeprefix(f"{step}-"))): value
                for key, name, value in ledgers
                if name.startswith(f"{step}-")
            }
            for step in STEPS
        },
        reminded=[Reminded((key, sequence), late) for key, _, arrived in reminders for sequence, late in arrived],
        rested=[(key, sequence) for key, sequence in _items(ledgers, "rested")],
        answered=[
            Answered((ledger, sequence), stamp, teller, number)
            for teller, ledger, answered in tellers
            if ledger != "answers"
            for sequence, stamp, number in answered
        ],
        heard=[Heard((key, sequence), number) for key, (sequence, number) in _items(ledgers, "heard")],
        steps=[_step_run(line) for line in outside.read_text().splitlines()],
        published=published,
        at_rest=at_rest,
        glimpses=earlier,
    )


def _items(states: Sequence[tuple[str, str, Any]], name: str) -> list[tuple[str, Any]]:
    """The items of a list in the state, each with its key."""
    return [(key, item) for key, each, items in states if each == name for item in items]


def _state(store: apsw.Connection, service: str) -> list[tuple[str, str, Any]]:
    rows: list[tuple[Any, ...]] = store.execute(STATE, (service,)).fetchall()
    return [(key, name, json.loads(value)) for key, name, value in rows]


def _step_run(line: str) -> StepRun:
    step, key, sequence, process, at_ms, stamp = line.split(" ")
    return StepRun(step, (key, int(sequence)), int(process), int(at_ms), stamp)


def published(broker: Broker, topic: str, partitions: int) -> list[Published]:
    """All messages of an output topic."""
    return [
        Published(
            partition,
            offset,
            (key.decode(), value["sequence"]),
            headers.get(MESSAGE_ID_HEADER, b"").decode(),
            value.get("digest", ""),
            value.get("stamp", ""),
        )
        for partition, offset, key, value, headers in _messages(broker, topic, partitions)
    ]


def _messages(broker: Broker, topic: str, partitions: int) -> Iterator[tuple[int, int, bytes, Any, dict[str, bytes]]]:
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap_servers, "group.id": "checker", "enable.auto.commit": False}
    )
    try:
        asked = [TopicPartition(topic, number, 0) for number in range(partitions)]
        ends = {each.partition: consumer.get_watermark_offsets(each, timeout=READ_S_MAX) for each in asked}
        left = {partition: bounds[1] for partition, bounds in ends.items() if bounds is not None and bounds[1]}
        consumer.assign(asked)
        deadline = time.monotonic() + READ_S_MAX
        while left:
            assert time.monotonic() < deadline, f"topic {topic} could not be read to its end within {READ_S_MAX} s"
            for message in consumer.consume(5_000, 0.2):
                assert message.error() is None, message.error()
                partition, offset, headers = message.partition(), message.offset(), message.headers()
                assert partition is not None and offset is not None and isinstance(headers, list)
                key, value = message.key(), message.value()
                assert isinstance(key, bytes) and isinstance(value, bytes)
                named = {name: text for name, text in headers if isinstance(text, bytes)}
                yield partition, offset, key, json.loads(value), named
                if offset + 1 >= left.get(partition, 0):
                    left.pop(partition, None)
    finally:
        consumer.close()
