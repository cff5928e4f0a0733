"""`streamstate run` in a process of its own, on a cluster that outlives it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import apsw
import pytest
from confluent_kafka import Producer

from streamstate_kafka.testing import MockCluster
from tests.cli.support import DRAINING, RUNNING, WAIT_S_MAX, shop, started, streamstate
from tests.kafka.support import take, unique, values_of

# Counts steps per key and tells the totals; "slow" waits for a word from outside before it counts, and
# "stuck" waits for ever, and everything with it.
COUNTING = """
import os, resource, time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from streamstate import App, ObjectContext, VirtualObject, subscribe
from streamstate_kafka import Kafka

counters = VirtualObject("Counter")


def word() -> str:
    print("the step waits", flush=True)
    told = Path("door").read_text()
    if told == "no more space":
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    return told


@subscribe("TOPIC", name="counting")
@counters.handler
async def count(ctx: ObjectContext, step: int) -> None:
    ctx.log.info("one more")
    while ctx.key == "stuck":
        time.sleep(0.01)
    total = await ctx.get("total") or 0
    if ctx.key == "slow":
        ctx.set("word", await ctx.run("word", word))
    ctx.set("total", total + step)
    ctx.publish("TOPIC-totals", total + step, key=ctx.key)


@asynccontextmanager
async def clients(app: App) -> AsyncIterator[None]:
    if "NO_CLIENTS" in os.environ:
        raise ConnectionRefusedError("the bank is closed")
    print("clients opened", flush=True)
    try:
        yield
    finally:
        print("clients closed", flush=True)


QUICK = {"topic.metadata.refresh.interval.ms": "200"}
app = App([counters], name="counting", connectors=[Kafka("SERVERS", options=QUICK)], lifespan=clients)
"""

pytestmark = pytest.mark.timeout(90)


class Counting:
    """The topic that the application counts, and what it has made of it."""

    def __init__(self, project: Path, servers: str) -> None:
        self.topic = unique("steps")
        self._servers = servers
        self._project = project
        source = COUNTING.replace("TOPIC", self.topic).replace("SERVERS", servers)
        (project / "counting.py").write_text(source, encoding="utf-8")
        os.mkfifo(project / "door")

    async def send(self, key: str, value: bytes) -> None:
        producer = Producer({"bootstrap.servers": self._servers, "log_level": 0})
        producer.produce(self.topic, value, key)
        assert await asyncio.to_thread(producer.flush, WAIT_S_MAX) == 0

    async def totals(self, count: int) -> list[int]:
        records = await asyncio.to_thread(take, self._servers, f"{self.topic}-totals", count)
        return [json.loads(value or b"") for value in values_of(records)]

    async def tell(self, word: str) -> None:
        """Let the step that waits at the door go on."""
        await asyncio.to_thread((self._project / "door").write_text, word)

    def stored(self, key: str) -> dict[str, Any]:
        path = self._project / ".streamstate" / "streamstate.db"
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        rows = connection.execute("SELECT key, value_utf8 FROM state WHERE service_key = ?", (key,)).fetchall()
        connection.close()
        return {str(name): json.loads(str(value)) for name, value in rows}


@pytest.fixture
def counting(project: Path, cluster: MockCluster) -> Counting:
    app = Counting(project, cluster.bootstrap_servers)
    cluster.create_topics(app.topic, f"{app.topic}-totals")
    return app


async def test_it_tells_what_it_runs_and_sigterm_drains_it(counting: Counting) -> None:
    async with started("run", "counting:app") as run:
        await run.says(RUNNING)
        await counting.send("k", b"1")
        assert await counting.totals(1) == [1]
        run.signal(signal.SIGTERM)
        assert await run.exit_code() == 0
    assert "data directory .streamstate" in run.output
    assert "Counter  object  count" in run.output
    assert f"counting      {counting.topic}" in run.output
    assert run.output.index(DRAINING) < run.output.index("clients closed") < run.output.index("stopped")
    assert " INFO    streamstate.invocation: " in run.output
    assert counting.stored("k") == {"total": 1}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_what_is_running_ends_before_the_process_does(counting: Counting, number: signal.Signals) -> None:
    async with started("run", "counting:app") as run:
        await counting.send("slow", b"5")
        await run.says("the step waits")
        run.signal(number)
        await run.says(DRAINING)
        await counting.tell("go")
        assert await run.exit_code() == 0
    assert counting.stored("slow") == {"word": "go", "total": 5}


async def test_a_second_ctrl_c_ends_it_at_once_and_loses_nothing(counting: Counting) -> None:
    async with started("run", "counting:app") as run:
        await counting.send("slow", b"5")
        await run.says("the step waits")
        run.signal(signal.SIGINT)
        await run.says(DRAINING)
        run.signal(signal.SIGINT)
        assert await run.exit_code() == 130
    async with started("run", "counting:app") as again:
        await again.says("the step waits")
        await counting.tell("later")
        assert await counting.totals(1) == [5]


async def test_ctrl_c_again_and_again_ends_it_although_a_handler_blocks_the_process(counting: Counting) -> None:
    async with started("run", "counting:app") as run:
        await counting.send("stuck", b"5")
        await run.says("one more")
        assert await run.interrupted() == 130


async def test_a_step_that_outlasts_the_drain_does_not_keep_the_process(counting: Counting) -> None:
    async with started("run", "counting:app", "--drain", "0.1") as run:
        await counting.send("slow", b"5")
        await run.says("the step waits")
        run.signal(signal.SIGTERM)
        assert await run.exit_code() == 0
    assert "run again at the next start" in run.output


async def test_after_kill_9_it_goes_on_in_the_same_data_directory(counting: Counting) -> None:
    async with started("run", "counting:app") as run:
        await counting.send("k", b"1")
        assert await counting.totals(1) == [1]
        run.signal(signal.SIGKILL)
        assert await run.exit_code() == -signal.SIGKILL
    async with started("run", "counting:app") as again:
        await again.says(RUNNING)
        await counting.send("k", b"10")
        assert (await counting.totals(2))[-1] == 11


async def test_a_second_process_on_the_data_directory_is_refused_by_name(counting: Counting) -> None:
    async with started("run", "counting:app", "--data", "shared") as first:
        await first.says(RUNNING)
        async with started("run", "counting:app", "--data", "shared") as second:
            assert await second.exit_code() == 1
        assert "Error: the data directory" in second.output
        assert "is in use by process" in second.output
        assert "Traceback" not in second.output
        first.signal(signal.SIGTERM)
        assert await first.exit_code() == 0


async def test_a_record_that_stops_a_subscription_is_logged_and_the_process_goes_on(counting: Counting) -> None:
    async with started("run", "counting:app") as run:
        await counting.send("k", b"not a number")
        await run.says("ERROR   streamstate.subscription: subscription counting stopped at ")
        run.signal(signal.SIGTERM)
        assert await run.exit_code() == 0
    assert counting.topic in run.output


async def test_an_engine_that_fails_ends_the_process_with_its_error(counting: Counting) -> None:
    async with started("run", "counting:app") as run:
        await counting.send("slow", b"5")
        await run.says("the step waits")
        await counting.tell("no more space")
        assert await run.exit_code() == 1
    assert "\nError: " in run.output
    assert "Traceback" not in run.output
    assert DRAINING not in run.output


async def test_a_commit_that_fails_while_draining_is_no_clean_end(counting: Counting) -> None:
    async with started("run", "counting:app") as run:
        await counting.send("slow", b"5")
        await run.says("the step waits")
        run.signal(signal.SIGTERM)
        await run.says(DRAINING)
        await counting.tell("no more space")
        assert await run.exit_code() == 1
    assert "\nError: " in run.output
    assert "Traceback" not in run.output


async def test_the_log_level_is_what_was_asked_for(counting: Counting) -> None:
    async with started("run", "counting:app", "--log-level", "error") as run:
        await counting.send("k", b"1")
        assert await counting.totals(1) == [1]
        run.signal(signal.SIGTERM)
        assert await run.exit_code() == 0
    assert "INFO" not in run.output


async def test_a_stop_while_it_starts_is_a_clean_end(project: Path, nobody: str) -> None:
    (project / "counting.py").write_text(COUNTING.replace("SERVERS", nobody), encoding="utf-8")
    async with started("run", "counting:app") as run:
        await run.says("clients opened")  # and now it waits some seconds for the broker
        run.signal(signal.SIGTERM)
        assert await run.exit_code() == 0
    assert "stopped before it was running" in run.output
    assert "clients closed" in run.output


async def test_an_error_of_the_lifespan_is_the_users_own(counting: Counting) -> None:
    async with started("run", "counting:app", env={"NO_CLIENTS": "1"}) as run:
        assert await run.exit_code() == 1
    assert "Error: ConnectionRefusedError: the bank is closed — at counting.py:" in run.output
    assert "Traceback" not in run.output


def test_a_broker_that_is_not_there_is_told_with_its_address(project: Path, nobody: str) -> None:
    shop(project, nobody)
    result = streamstate("run", "shop:app")
    assert result.exit_code == 1
    assert f"cannot be read: no answer within 5 s ({nobody}" in result.stderr
    assert "s3cret" not in result.output


def test_a_topic_that_is_not_there_is_told_with_the_remedy(project: Path) -> None:
    with MockCluster() as empty:
        shop(project, empty.bootstrap_servers)
        result = streamstate("run", "shop:app")
    assert result.exit_code == 1
    assert "topic 'driver-updates' is not on Kafka 'kafka'" in result.stderr
    assert "kafka-topics.sh" in result.stderr


def test_a_data_directory_that_is_something_else_is_refused(project: Path) -> None:
    shop(project)
    (project / "data").mkdir()
    (project / "data" / "streamstate.db").write_bytes(b"these are not our bytes" * 100)
    result = streamstate("run", "shop:app", "--data", "data")
    assert result.exit_code == 1
    assert "streamstate.db" in result.stderr
    assert streamstate("run", "shop:app", "--data", "shop.py").exit_code == 2
