"""What happens to a topic below an App that keeps positions: made anew, cut, grown; while it runs, and while not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewPartitions

from streamstate import App, ObjectContext, Start, StateKey, VirtualObject, subscribe
from streamstate.app import Running
from streamstate.definitions import Record
from streamstate.errors import SubscriptionStoppedError
from streamstate.ingress import Records, SourceStopped
from streamstate_kafka import Kafka, _source
from streamstate_kafka._client import Capability, Fault, FaultKind, Fetched, GroupOffset, Partition, Reader, Writer
from streamstate_kafka._options import Options
from streamstate_kafka._source import KafkaSource
from tests.brokers import Broker
from tests.kafka.support import WAIT_S_MAX, send, subscription, unique, until

SEEN = StateKey[list[str]]("seen", default=[])


class Watched:
    """One topic, and an App that notes every record it is given, in order."""

    def __init__(self, broker: Broker, data: Path, *, start: Start, refresh_ms: int) -> None:
        self.broker = broker
        self.topic = unique("watched")
        self._data = data
        watchers = VirtualObject("Watcher")

        @subscribe(self.topic, name=f"{self.topic}-watch", start=start)
        @watchers.handler
        async def see(ctx: ObjectContext, value: str) -> None:
            ctx.set(SEEN, [*await ctx.get(SEEN), value])

        options = {"topic.metadata.refresh.interval.ms": refresh_ms}
        kafka = Kafka(broker.bootstrap_servers, options=options)
        self._app = App([watchers], name="watching", connectors=[kafka])

    def create(self, partitions: int = 1) -> None:
        self.broker.create_topic(self.topic, partitions)

    def send(self, *values: str, partition: int = 0) -> None:
        send(
            self.broker.bootstrap_servers,
            self.topic,
            [b'"%s"' % value.encode() for value in values],
            partition=partition,
        )

    def make_anew(self) -> None:
        self.broker.delete_topic(self.topic)
        self.create()

    def cut(self, offset: int) -> None:
        """Delete the records of partition 0 before an offset."""
        admin = self.broker.admin()
        for result in admin.delete_records([TopicPartition(self.topic, 0, offset)]).values():
            result.result(WAIT_S_MAX)

    async def grow(self) -> None:
        admin = self.broker.admin()
        admin.create_partitions([NewPartitions(self.topic, 2)])[self.topic].result(WAIT_S_MAX)
        await until(lambda: len(admin.list_topics(timeout=5).topics[self.topic].partitions) == 2)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Running]:
        async with self._app.embedded(self._data) as running:
            yield running

    async def has_seen(self, running: Running, *values: str) -> None:
        """Wait until exactly these were seen, in this order."""
        wanted = [*values]
        async with asyncio.timeout(WAIT_S_MAX):
            while (seen := self.seen(running)) != wanted:
                assert seen == wanted[: len(seen)]
                await asyncio.sleep(0.01)

    def seen(self, running: Running) -> list[str]:
        raw = running.engine.object_state("Watcher", "key").get("seen")
        return [] if raw is None else SEEN.decode_optional(raw) or []

    async def reported(self, offset: int) -> None:
        group = f"{self.topic}-watch"
        await until(lambda: self.broker.group_offsets(group).get((self.topic, 0)) == offset)


@pytest.fixture
def watched(kafka_broker: Broker, tmp_path: Path) -> Watched:
    """Begins at the end of its topic: what is read all the same is what the test is about."""
    watched = Watched(kafka_broker, tmp_path / "data", start=Start.latest(), refresh_ms=200)
    watched.create()
    return watched


async def test_a_topic_made_anew_while_the_app_runs_is_read_whole_and_once(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    async with watched.running() as running:
        watched.send("old 0", "old 1")
        await watched.has_seen(running, "old 0", "old 1")
        watched.make_anew()
        await until(lambda: f"topic '{watched.topic}' was made anew" in caplog.text)
        new = [f"new {number}" for number in range(5)]
        watched.send(*new)
        await watched.has_seen(running, "old 0", "old 1", *new)
        await watched.reported(5)
    async with watched.running() as running:
        watched.send("and on")
        await watched.has_seen(running, "old 0", "old 1", *new, "and on")


async def test_a_topic_made_anew_while_the_app_is_down_is_read_whole_and_once(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    async with watched.running() as running:
        watched.send("old 0", "old 1")
        await watched.has_seen(running, "old 0", "old 1")
    watched.make_anew()
    new = [f"new {number}" for number in range(5)]
    watched.send(*new)
    async with watched.running() as running:
        await watched.has_seen(running, "old 0", "old 1", *new)
    assert f"topic '{watched.topic}' was made anew; it is read from its beginning" in caplog.text
    async with watched.running() as running:
        watched.send("and on")
        await watched.has_seen(running, "old 0", "old 1", *new, "and on")


async def test_a_new_topic_that_is_longer_than_the_old_one_was_read_is_never_taken_for_it_in_silence(
    kafka_broker: Broker, tmp_path: Path
) -> None:
    """The client reads on at the old offset, in the new log: nothing in a record says which of both it is from."""
    watched = Watched(kafka_broker, tmp_path / "data", start=Start.earliest(), refresh_ms=30_000)
    watched.create()
    old, new = ["old 0", "old 1"], [f"new {number}" for number in range(5)]
    async with watched.running() as running:
        watched.send(*old)
        await watched.has_seen(running, *old)
        watched.make_anew()
        watched.send(*new)
        (feed,) = running.feeds.values()
        await until(lambda: watched.seen(running) == [*old, *new] or feed.error is not None)
        seen = watched.seen(running)
    if feed.error is None:
        assert seen == [*old, *new]
    else:
        assert f"topic '{watched.topic}' was made anew while it was read" in str(feed.error)
        assert len(seen) == len(set(seen)), "nothing was handled twice before it stopped"


async def test_partitions_that_appear_while_the_app_runs_and_while_it_is_down_are_read_from_their_beginning(
    watched: Watched,
) -> None:
    async with watched.running() as running:
        watched.send("first")
        await watched.has_seen(running, "first")
    await watched.grow()
    watched.send("second", partition=1)
    async with watched.running() as running:
        await watched.has_seen(running, "first", "second")
        watched.send("third", partition=1)
        await watched.has_seen(running, "first", "second", "third")


async def test_a_partition_that_appears_while_the_app_runs_is_read_and_its_position_kept(watched: Watched) -> None:
    async with watched.running() as running:
        await watched.grow()
        watched.send("first", partition=1)
        await watched.has_seen(running, "first")
    watched.send("second", partition=1)
    async with watched.running() as running:
        await watched.has_seen(running, "first", "second")


async def test_records_deleted_before_they_were_read_stop_the_subscription_by_name_until_a_person_has_decided(
    watched: Watched,
) -> None:
    async with watched.running() as running:
        watched.send("0", "1")
        await watched.has_seen(running, "0", "1")
    watched.send(*"23456")
    watched.cut(5)
    for _ in range(2):
        async with watched.running() as running:
            with pytest.raises(SubscriptionStoppedError) as stopped:
                async with asyncio.timeout(WAIT_S_MAX):
                    await running.stopped()
            assert watched.seen(running) == ["0", "1"]
        message = str(stopped.value)
        assert f"position 2 of topic '{watched.topic}' partition 0" in message
        assert "the 3 records from 2 were deleted before they were read" in message
        assert "Choose" in message


async def test_records_that_were_read_may_be_deleted(watched: Watched) -> None:
    async with watched.running() as running:
        watched.send("0", "1")
        await watched.has_seen(running, "0", "1")
    watched.cut(2)
    watched.send("2")
    async with watched.running() as running:
        await watched.has_seen(running, "0", "1", "2")


# Moments that a real cluster does not give on demand.


class StagedCluster:
    """A `KafkaClient` and its `Reader` in one, for one topic of one partition: a test says what is there.

    Attributes:
        topic_id, low, end: of the log that is there now.
        reads: what the next reads give. assigned: every position that was assigned so far.
    """

    capabilities = frozenset({Capability.TOPIC_IDS})

    def __init__(self) -> None:
        self.topic_id, self.low, self.end = "id-old", 0, 2
        self.reads: list[Fetched] = []
        self.assigned: list[int] = []
        self.given = -1

    async def topics(self) -> Mapping[str, int]:
        return {"orders": 1}

    async def topic_ids(self, topics: Sequence[str]) -> Mapping[str, str]:
        return dict.fromkeys(topics, self.topic_id)

    def reader(self, group: str, options: Mapping[str, str]) -> Reader:
        return self

    def writer(self) -> Writer:
        raise AssertionError("nothing is written here")

    async def starts(self, partitions: Sequence[Partition], start: Start) -> dict[Partition, int]:
        return dict.fromkeys(partitions, 0)

    async def bounds(self, partition: Partition) -> tuple[int, int]:
        return (self.low, self.end)

    async def position(self, partition: Partition) -> int:
        return self.given

    async def assign(self, positions: Mapping[Partition, int]) -> None:
        self.assigned += positions.values()

    async def unassign(self, partitions: Sequence[Partition]) -> None:
        self.given = -1

    async def read(self) -> Fetched:
        await asyncio.sleep(0)
        fetched = self.reads.pop(0) if self.reads else Fetched([], [])
        if fetched.records:
            self.given = fetched.records[-1].offset + 1
        return fetched

    async def reported(self, partitions: Sequence[Partition]) -> dict[Partition, GroupOffset]:
        return {}

    async def report(self, offsets: Mapping[Partition, GroupOffset]) -> None:
        """To nobody."""

    async def close(self) -> None:
        """Nothing is open."""


def records(*offsets: int) -> Fetched:
    return Fetched([Record("orders", 0, offset, 0, b"key", b"%d" % offset, ()) for offset in offsets], [])


@pytest.fixture
async def staged(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[StagedCluster, KafkaSource]]:
    monkeypatch.setattr(_source, "LOOK_S_MIN", 0)
    cluster = StagedCluster()
    source = KafkaSource("Kafka 'staged'", subscription("orders"), cluster, Options("staged:9092", {}))
    await source.open({})
    yield cluster, source
    await source.close()


async def polled(source: KafkaSource) -> Records | SourceStopped:
    async with asyncio.timeout(WAIT_S_MAX):
        return await source.poll()


async def test_what_may_be_of_two_incarnations_stops_the_source(staged: tuple[StagedCluster, KafkaSource]) -> None:
    cluster, source = staged
    cluster.reads = [records(0, 1), records(2, 3)]
    await polled(source)
    cluster.topic_id, cluster.end = "id-new", 5
    await polled(source)  # nothing says yet that these are of the new log
    stopped = await polled(source)
    assert isinstance(stopped, SourceStopped)
    assert "topic 'orders' was made anew while it was read" in stopped.message
    assert "from offset 0 of partition 0 on" in stopped.message
    assert await polled(source) == stopped


@pytest.mark.parametrize("end", [0, 1, 3], ids=["empty", "shorter", "one shorter than what was read"])
async def test_a_new_log_that_ends_before_what_was_read_last_is_read_from_its_beginning(
    staged: tuple[StagedCluster, KafkaSource], end: int
) -> None:
    cluster, source = staged
    cluster.reads = [records(0, 1, 2, 3)]
    await polled(source)
    cluster.topic_id, cluster.end = "id-new", end
    cluster.reads = [Fetched([], []), records(0)]
    again = await polled(source)
    assert isinstance(again, Records) and again.topic_ids == {"orders": "id-new"}
    assert cluster.assigned == [0, 0]


async def test_a_new_log_of_any_length_is_read_from_its_beginning_if_nothing_was_read_since_the_last_look(
    staged: tuple[StagedCluster, KafkaSource],
) -> None:
    cluster, source = staged
    cluster.reads = [records(0, 1)]
    await polled(source)
    polling = asyncio.ensure_future(polled(source))
    await until(lambda: not source._has_read)
    cluster.topic_id, cluster.end = "id-new", 50
    source._refresh_due = 0.0
    await until(lambda: cluster.assigned == [0, 0])
    cluster.reads = [records(0)]
    again = await polling
    assert isinstance(again, Records) and again.topic_ids == {"orders": "id-new"}


async def test_a_fault_at_the_old_position_does_not_move_the_beginning_of_the_new_log(
    staged: tuple[StagedCluster, KafkaSource],
) -> None:
    cluster, source = staged
    cluster.reads = [records(0, 1)]
    await polled(source)
    cluster.topic_id, cluster.end = "id-new", 1
    gone = Fault(FaultKind.OUT_OF_RANGE, "out of range", ("orders", 0), 2)
    cluster.reads = [Fetched([], []), Fetched([], [gone]), Fetched([], [gone])]
    polling = asyncio.ensure_future(polled(source))
    await until(lambda: not cluster.reads)
    cluster.end = 9
    cluster.reads = [records(0)]
    await polling
    assert cluster.assigned == [0, 0]


async def test_what_is_deleted_between_the_start_and_the_first_read_is_told(
    staged: tuple[StagedCluster, KafkaSource], caplog: pytest.LogCaptureFixture
) -> None:
    cluster, source = staged
    cluster.reads = [Fetched([], [Fault(FaultKind.OUT_OF_RANGE, "out of range", ("orders", 0), 0)]), records(4)]
    cluster.end = 5
    cluster.low = 4
    await polled(source)
    assert cluster.assigned == [0, 4]
    assert "orders[0]: begins at 4; what was at 0 is there no more" in caplog.text
