"""The workload that both sides of `kafka_state` run: its records, its state, its client settings."""

from __future__ import annotations

import random

import msgspec
from confluent_kafka import Producer

PARTITIONS = 4
KEYS = 5_000
RECORDS = 300_000

# librdkafka's default backoff of one second throttles a catch-up to about `queued.min.messages` a second. aiokafka is
# not throttled; it asks for the next fetch when the last one is used up.
CLIENT_OPTIONS: dict[str, dict[str, str]] = {
    "confluent": {"fetch.queue.backoff.ms": "5", "queued.min.messages": "100000"},
    "aiokafka": {},
}


class Moved(msgspec.Struct):
    """One record: about 80 bytes of JSON."""

    order: str
    driver: str
    lat: float
    lon: float
    metres: int


class Driver(msgspec.Struct):
    """The state of one key."""

    moves: int
    metres: int
    lat: float
    lon: float


def after(driver: Driver | None, moved: Moved) -> Driver:
    """The state after one record."""
    if driver is None:
        return Driver(1, moved.metres, moved.lat, moved.lon)
    return Driver(driver.moves + 1, driver.metres + moved.metres, moved.lat, moved.lon)


def load(bootstrap_servers: str, topic: str, records: int) -> dict[str, int]:
    """Write the records to an existing topic, and give what all states together must show afterwards."""
    failures: list[str] = []
    producer = Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 20, "acks": "all"})
    dice = random.Random(20)
    metres = 0
    for number in range(records):
        driver = f"driver-{dice.randrange(KEYS)}"
        moved = Moved(f"o-{number}", driver, round(52 + dice.random(), 5), round(4 + dice.random(), 5), number % 100)
        metres += moved.metres
        while True:
            try:
                producer.produce(
                    topic,
                    key=driver,
                    value=msgspec.json.encode(moved),
                    on_delivery=lambda error, _: failures.append(str(error)) if error else None,
                )
                break
            except BufferError:
                producer.poll(0.05)
        if number % 10_000 == 0:
            producer.poll(0)
    left = producer.flush(60)
    if left or failures:
        raise RuntimeError(f"topic {topic} on {bootstrap_servers}: {left} records not sent, failures {failures[:3]}")
    return {"moves": records, "metres": metres}
