"""The demo from end to end: worker process, mock cluster, simulators, checker."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from food_ordering import topics
from food_ordering.demo import DemoOptions, run_demo
from food_ordering.model import OrderStatus, StatusChange
from food_ordering.supervisor import Worker, WorkerDied, WorkerPlace
from food_ordering.wire import Wire
from streamstate.errors import SourceError
from streamstate_kafka.testing import MockCluster


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker process imports what this one imports."""
    monkeypatch.setenv("PYTHONPATH", ":".join(path for path in sys.path if path))


async def test_every_order_is_decided_and_every_promise_kept() -> None:
    console = Console(file=io.StringIO(), width=200)
    result = await run_demo(DemoOptions(orders=12, drivers=6, rate=6), console)
    assert [(found.promise, found.faults) for found in result.checks if not found.is_kept] == []
    assert result.kills == 0
    assert result.folder is None, "nothing is left behind"


async def test_killing_the_worker_changes_nothing() -> None:
    console = Console(file=io.StringIO(), width=200)
    result = await run_demo(DemoOptions(orders=24, drivers=8, rate=6, chaos=True, kills=3), console)
    assert [(found.promise, found.faults) for found in result.checks if not found.is_kept] == []
    assert result.kills == 3


async def test_a_broker_that_is_not_there_is_told_in_one_sentence() -> None:
    with pytest.raises(SourceError, match=r"^the demo cannot use Kafka at 127\.0\.0\.1:1: [^\n]*; check the address"):
        await run_demo(DemoOptions(kafka="127.0.0.1:1"), Console(file=io.StringIO()))


async def test_a_worker_ends_with_the_record_that_stopped_its_subscription(tmp_path: Path) -> None:
    with MockCluster() as cluster:
        cluster.create_topics(*(topic.name for topic in topics.ALL))
        wire = Wire(cluster.bootstrap_servers)
        wire.publish("orders", StatusChange(OrderStatus.CREATED), key="order-1")
        await wire.flush()
        worker = Worker(WorkerPlace(cluster.bootstrap_servers, "", tmp_path))
        await worker.start()
        with pytest.raises(
            WorkerDied, match=r"exit code 1\n(.*\n)*  \| SubscriptionStoppedError: .* orders, partition \d"
        ):
            await worker.watch()


async def test_a_worker_that_ends_by_itself_is_told_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way of the data directory")
    worker = Worker(WorkerPlace("127.0.0.1:1", "", tmp_path))
    await worker.start()
    with pytest.raises(WorkerDied, match=r"ended by itself with exit code [1-9]\d*\n  \| "):
        await worker.watch()
