"""`kafka_state`: a record changes the durable state of its key; the engine against a raw loop on one real broker.

Both use the same client library, of which there are two.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from benchmarks._comparison import Options, Result, compare, take_turns
from benchmarks._measured import run_child
from benchmarks.kafka_state_workload import PARTITIONS, RECORDS, load
from tests.brokers import Broker, start_broker

GOAL = 0.8
BASELINES = {"confluent": "benchmarks.kafka_state_raw", "aiokafka": "benchmarks.kafka_state_raw_aiokafka"}


def measure(options: Options) -> Iterator[Result]:
    """Load one topic, then read it whole once per run: each in a child process, with its own group and directory."""
    broker = Broker(options.kafka) if options.kafka else start_broker()
    try:
        topic = f"kafka-state-{uuid.uuid4().hex[:8]}"
        broker.create_topic(topic, PARTITIONS)
        expected = load(broker.bootstrap_servers, topic, RECORDS)
        arguments = [broker.bootstrap_servers, topic, str(RECORDS)]
        turns = take_turns(
            baseline=lambda: run_child(BASELINES[options.client], arguments, expected),
            subject=lambda: run_child("benchmarks.kafka_state_app", [*arguments, options.client], expected),
            repetitions=options.repetitions,
        )
        name = "kafka_state" if options.client == "confluent" else f"kafka_state, {options.client}"
        yield compare(name, "events/s", GOAL, turns)
    finally:
        broker.close()
