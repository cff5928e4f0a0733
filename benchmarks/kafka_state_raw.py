"""The baseline of `kafka_state`: what a program does by hand, without a framework.

Batches of up to 1,000 records, decoded into a dict of states; the changed ones and the offsets go into one commit.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

import apsw
import msgspec
from confluent_kafka import Consumer, TopicPartition

from benchmarks._measured import Measured
from benchmarks.kafka_state_workload import CLIENT_OPTIONS, PARTITIONS, Driver, Moved, after

BATCH_RECORDS_MAX = 1_000


class Table:
    """States and offsets in one SQLite file, with the durability of the engine's store."""

    def __init__(self, path: Path) -> None:
        self._connection = apsw.Connection(str(path))
        self._connection.pragma("journal_mode", "wal")
        self._connection.pragma("synchronous", "full")
        self._connection.execute(
            "CREATE TABLE driver (key TEXT PRIMARY KEY, state BLOB) WITHOUT ROWID;"
            "CREATE TABLE position (partition INTEGER PRIMARY KEY, next INTEGER)"
        )

    def commit(self, states: Mapping[str, bytes], positions: Mapping[int, int]) -> None:
        with self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO driver VALUES (?,?)", states.items())
            self._connection.executemany("INSERT OR REPLACE INTO position VALUES (?,?)", positions.items())

    def totals(self) -> dict[str, int]:
        """What is durable, added up."""
        rows = self._connection.execute("SELECT state FROM driver")
        drivers = [msgspec.json.decode(state, type=Driver) for (state,) in rows]
        return {"moves": sum(driver.moves for driver in drivers), "metres": sum(driver.metres for driver in drivers)}


def consume(consumer: Consumer, table: Table, records: int) -> float:
    """Seconds from the first record received to the last commit done."""
    decoder, encode = msgspec.json.Decoder(Moved), msgspec.json.encode
    drivers: dict[str, Driver] = {}
    seen = 0
    started = 0.0
    while seen < records:
        messages = consumer.consume(BATCH_RECORDS_MAX, 1.0)
        if not seen:
            started = time.perf_counter()
        changed: dict[str, Driver] = {}
        positions: dict[int, int] = {}
        for message in messages:
            key, value, partition, offset = message.key(), message.value(), message.partition(), message.offset()
            if message.error() is not None or key is None or value is None or partition is None or offset is None:
                raise RuntimeError(f"not a record: {message.error()}")
            name = key.decode()
            drivers[name] = changed[name] = after(drivers.get(name), decoder.decode(value))
            positions[partition] = offset + 1
        if messages:
            table.commit({name: encode(driver) for name, driver in changed.items()}, positions)
        seen += len(messages)
    return time.perf_counter() - started


def main(bootstrap_servers: str, topic: str, records: str, directory: str) -> None:
    table = Table(Path(directory) / "raw.db")
    consumer = Consumer(
        {
            **CLIENT_OPTIONS["confluent"],
            "bootstrap.servers": bootstrap_servers,
            "group.id": f"raw-{Path(directory).name}",
            "enable.auto.commit": False,
        }
    )
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    duration_s = consume(consumer, table, int(records))
    consumer.close()
    print(msgspec.json.encode(Measured(int(records) / duration_s, table.totals())).decode())


if __name__ == "__main__":
    main(*sys.argv[1:])
