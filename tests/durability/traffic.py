"""Keeps writing records while things die; its log is what the broker acknowledged."""

from __future__ import annotations

import json
import random
import threading
from collections import defaultdict
from typing import Self

from confluent_kafka import KafkaError, Message, Producer

KEYS = 40
HOT_SHARE = 0.05  # of the records go to one key, so that its events wait in its queue
BURST = 18
PAUSE_S = 0.02
UNACKNOWLEDGED_MAX = 500  # a broker that is down for long leaves no mountain of work
FLUSH_S_MAX = 120.0
JOIN_S_MAX = 30.0


class Traffic:
    """A producer in a thread of its own: with the usual burst some nine hundred records a second at most.

    Use it as a context manager.
    """

    def __init__(self, servers: str, topic: str, seed: int, burst: int = BURST) -> None:
        self._burst = burst
        self._topic = topic
        self._random = random.Random(seed)
        self._producer = Producer(
            {
                "bootstrap.servers": servers,
                "enable.idempotence": True,
                "message.timeout.ms": 0,  # a broker may take its time to come back
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )
        self._written: defaultdict[str, int] = defaultdict(int)
        self._acknowledged: defaultdict[str, int] = defaultdict(int)
        self._ends: defaultdict[int, int] = defaultdict(int)
        self._errors: list[str] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic")

    @property
    def ends(self) -> dict[int, int]:
        """The end of each partition, as far as it was acknowledged."""
        return dict(self._ends)

    @property
    def sent(self) -> dict[str, int]:
        """How many records of each key were acknowledged, which are its sequences from 1 on."""
        return dict(self._acknowledged)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(JOIN_S_MAX)

    def finish(self) -> None:
        """Write no more, and wait until everything written is acknowledged."""
        self._ending.set()
        self._thread.join(JOIN_S_MAX)
        assert self._producer.flush(FLUSH_S_MAX) == 0, "the broker did not acknowledge all records"
        assert not self._errors, self._errors[:3]
        assert self._acknowledged == self._written

    def _run(self) -> None:
        while not self._ending.wait(PAUSE_S):
            for _ in range(self._burst if len(self._producer) < UNACKNOWLEDGED_MAX else 0):
                self._write()
            self._producer.poll(0)

    def _write(self) -> None:
        number = 0 if self._random.random() < HOT_SHARE else self._random.randrange(KEYS)
        key = f"ledger-{number}"
        self._written[key] += 1
        sequence = self._written[key]

        def delivered(error: KafkaError | None, message: Message) -> None:
            partition, offset = message.partition(), message.offset()
            if error is not None or partition is None or offset is None:
                self._errors.append(f"{key}#{sequence}: {error}")
                return
            if sequence != self._acknowledged[key] + 1:
                self._errors.append(f"{key}#{sequence} was acknowledged behind {self._acknowledged[key]}")
            self._acknowledged[key] = sequence
            self._ends[partition] = max(self._ends[partition], offset + 1)

        self._producer.produce(self._topic, json.dumps({"sequence": sequence}), key, on_delivery=delivered)
