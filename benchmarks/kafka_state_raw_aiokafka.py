"""The baseline of `kafka_state` with the other client: the same loop by hand, on aiokafka."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition  # type: ignore[import-untyped]  # ships no types

from benchmarks._measured import Measured
from benchmarks.kafka_state_raw import BATCH_RECORDS_MAX, Table
from benchmarks.kafka_state_workload import PARTITIONS, Driver, Moved, after


async def consume(consumer: AIOKafkaConsumer, table: Table, records: int) -> float:
    """Seconds from the first record received to the last commit done."""
    decoder, encode = msgspec.json.Decoder(Moved), msgspec.json.encode
    drivers: dict[str, Driver] = {}
    seen = 0
    started = 0.0
    while seen < records:
        taken = await consumer.getmany(timeout_ms=1_000, max_records=BATCH_RECORDS_MAX)
        if not seen:
            started = time.perf_counter()
        changed: dict[str, Driver] = {}
        positions: dict[int, int] = {}
        for partition, messages in taken.items():
            for message in messages:
                name = message.key.decode()
                drivers[name] = changed[name] = after(drivers.get(name), decoder.decode(message.value))
            positions[partition.partition] = messages[-1].offset + 1
            seen += len(messages)
        if positions:
            table.commit({name: encode(driver) for name, driver in changed.items()}, positions)
    return time.perf_counter() - started


async def run_baseline(bootstrap_servers: str, topic: str, records: int, table: Table) -> float:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        for partition in partitions:
            consumer.seek(partition, 0)
        return await consume(consumer, table, records)
    finally:
        await consumer.stop()


def main(bootstrap_servers: str, topic: str, records: str, directory: str) -> None:
    table = Table(Path(directory) / "raw.db")
    duration_s = asyncio.run(run_baseline(bootstrap_servers, topic, int(records), table))
    print(msgspec.json.encode(Measured(int(records) / duration_s, table.totals())).decode())


if __name__ == "__main__":
    main(*sys.argv[1:])
