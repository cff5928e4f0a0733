"""The example from end to end with aiokafka: a real broker, a worker process that is killed, the checker."""

from __future__ import annotations

import asyncio
import io
import sys
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from food_ordering.demo import DemoOptions, run_demo
from tests.brokers import Broker

ROOT = Path(__file__).parents[3]


async def test_killing_a_worker_on_aiokafka_changes_nothing(
    kafka_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    create = asyncio.create_subprocess_exec

    async def with_aiokafka(*command: str, **options: Any) -> Process:
        started.append("tests.kafka.conformance.aiokafka_worker")
        return await create(*(started[-1] if each == "food_ordering.worker" else each for each in command), **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", with_aiokafka)
    monkeypatch.setenv("PYTHONPATH", ":".join([str(ROOT), *(path for path in sys.path if path)]))
    options = DemoOptions(orders=12, drivers=6, rate=6, chaos=True, kills=1, kafka=kafka_broker.bootstrap_servers)
    result = await run_demo(options, Console(file=io.StringIO(), width=200))
    assert [(found.promise, found.faults) for found in result.checks if not found.is_kept] == []
    assert (result.kills, len(started)) == (1, 2)
