"""`kafka_state`: a record changes the durable state of its key; the engine against a raw loop on one real broker."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from benchmarks._comparison import Options, Result, compare, take_turns
from benchmarks._measured import run_child
from benchmarks.kafka_state_workload import PARTITIONS, RECORDS, load
from tests.brokers import Broker, start_broker

GOAL = 0.8


def measure(options: Options) -> Iterator[Result]:
    """Load one topic, then read it whole once per run: each in a child process, with its own group and directory."""
    broker = Broker(options.kafka) if options.kafka else start_broker()
    try:
        topic = f"kafka-state-{uuid.uuid4().hex[:8]}"
        broker.create_topic(topic, PARTITIONS)
        expected = load(broker.bootstrap_servers, topic, RECORDS)
        arguments = [broker.bootstrap_servers, topic, str(RECORDS)]
        turns = take_turns(
            baseline=lambda: run_child("benchmarks.kafka_state_raw", arguments, expected),
            subject=lambda: run_child("benchmarks.kafka_state_app", arguments, expected),
            repetitions=options.repetitions,
        )
        yield compare("kafka_state", "events/s", GOAL, turns)
    finally:
        broker.close()
