"""One owner: who may read on behalf of a consumer group. O1 to O4 of `_ownership`, R1 and R2 of `_reports`."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from streamstate import App, ObjectContext, StateKey, VirtualObject, subscribe
from streamstate.app import Running
from streamstate.definitions import SubscriptionSpec
from streamstate.errors import SourceError
from streamstate.ingress import Owned, Owner, PartitionId, Source, TakenOver
from streamstate_kafka import Kafka, _reports
from streamstate_kafka._client import ClientError, GroupOffset, Partition
from streamstate_kafka._ownership import Mark, Ownership, Position, mark_in
from streamstate_kafka._reports import Reports
from streamstate_kafka.testing import MockCluster
from tests.brokers import Broker
from tests.cli.support import RUNNING, shop, started
from tests.kafka.support import (
    WAIT_S_MAX,
    batch,
    read_until_stopped,
    send,
    subscription,
    unique,
    until,
    values_of,
)

HERE: Partition = ("orders", 0)
THERE: Partition = ("orders", 1)


class MemoryGroup:
    """A consumer group without a cluster.

    Attributes:
        meanwhile: what happens between the next question and its answer's use; failures: what is raised next.
    """

    def __init__(self) -> None:
        self.offsets: dict[Partition, GroupOffset] = {}
        self.meanwhile: list[Callable[[], None]] = []
        self.failures: list[ClientError] = []
        self.writes = 0

    async def reported(self, partitions: Sequence[Partition]) -> dict[Partition, GroupOffset]:
        self._fail()
        found = {partition: self.offsets[partition] for partition in partitions if partition in self.offsets}
        while self.meanwhile:
            self.meanwhile.pop()()
        return found

    async def report(self, offsets: Mapping[Partition, GroupOffset]) -> None:
        self._fail()
        self.offsets.update(offsets)
        self.writes += 1

    def position(self, partition: Partition = HERE) -> int:
        return self.offsets[partition].offset

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> MemoryGroup:
    monkeypatch.setattr(_reports, "INTERVAL_S", 0)
    monkeypatch.setattr(_reports, "CLAIM_RETRY_S", 0)
    return MemoryGroup()


@pytest.fixture(scope="module")
def cluster() -> Iterator[MockCluster]:
    with MockCluster() as cluster:
        yield cluster


def reports(group: MemoryGroup, directory: str, epoch: int = 1, *, takes_over: bool = False) -> Reports:
    return Reports("shop", group, Ownership(Owner(directory, epoch, takes_over)))


def at(offset: int, topic_id: str = "id-1") -> Position:
    return Position(offset, topic_id)


async def idle(ours: Reports) -> None:
    """Wait until it has nothing to report any more, or may not."""
    async with asyncio.timeout(WAIT_S_MAX):
        if ours._working is not None:
            await ours._working


async def test_every_reported_offset_carries_the_mark_of_its_start(group: MemoryGroup) -> None:
    first = reports(group, "dir-a", epoch=3)
    assert await first.claim([HERE, THERE], {HERE: at(5)}) == ""
    assert group.position() == 5
    first.add({THERE: at(7)})
    await idle(first)
    marks = [mark_in(offset.metadata) for offset in group.offsets.values()]
    assert [mark and (mark.term, mark.directory, mark.epoch, mark.topic_id) for mark in marks] == [
        (1, "dir-a", 3, "id-1"),
        (1, "dir-a", 3, "id-1"),
    ]


@pytest.mark.parametrize("metadata", ["", "mine", "{}", '{"by":"another"}', '{"by":"streamstate","term":"one"}', "[1]"])
def test_metadata_of_others_is_no_mark(metadata: str) -> None:
    assert mark_in(metadata) is None


async def test_a_start_on_another_directory_is_refused_by_name_and_writes_nothing(group: MemoryGroup) -> None:
    await reports(group, "dir-a", epoch=3).claim([HERE], {HERE: at(5)})
    before = dict(group.offsets)
    refusal = await reports(group, "dir-b").claim([HERE], {HERE: at(0)})
    assert "its offsets are reported by data directory dir-a (start 3)" in refusal
    assert "this is data directory dir-b (start 1)" in refusal
    for choice in ("start on that directory", "--take-over", "another name"):
        assert choice in refusal
    assert group.offsets == before


async def test_the_next_start_of_the_same_directory_goes_on(group: MemoryGroup) -> None:
    await reports(group, "dir-a", epoch=1).claim([HERE], {HERE: at(5)})
    assert await reports(group, "dir-a", epoch=2).claim([HERE], {HERE: at(5)}) == ""
    assert await reports(group, "dir-a", epoch=3).claim([HERE], {HERE: at(6)}) == ""


@pytest.mark.parametrize(
    ("epoch", "held"),
    [(4, {HERE: at(4)}), (3, {HERE: at(5)}), (2, {HERE: at(9)}), (3, {})],
    ids=["its position is behind", "it started no later", "it started before", "it has no position and is as old"],
)
async def test_an_older_copy_of_the_directory_is_refused_by_name(
    group: MemoryGroup, epoch: int, held: Mapping[Partition, Position]
) -> None:
    await reports(group, "dir-a", epoch=3).claim([HERE], {HERE: at(5)})
    refusal = await reports(group, "dir-a", epoch=epoch).claim([HERE], held)
    assert "offset 5 of topic 'orders' partition 0 was reported by data directory dir-a (start 3)" in refusal
    assert f"this is data directory dir-a (start {epoch})" in refusal
    assert "older copy" in refusal and "--take-over" in refusal
    assert await reports(group, "dir-a", epoch=epoch, takes_over=True).claim([HERE], held) == ""


async def test_an_offset_of_an_earlier_incarnation_of_the_topic_is_no_sign_of_an_older_copy(group: MemoryGroup) -> None:
    await reports(group, "dir-a", epoch=3).claim([HERE], {HERE: at(500, "id-1")})
    assert await reports(group, "dir-a", epoch=4).claim([HERE], {HERE: at(2, "id-2")}) == ""


async def test_offsets_without_a_mark_bind_nobody_and_are_told(
    group: MemoryGroup, caplog: pytest.LogCaptureFixture
) -> None:
    group.offsets[HERE] = GroupOffset(40)
    assert await reports(group, "dir-a").claim([HERE], {HERE: at(5)}) == ""
    assert group.position() == 5
    assert "the offset of topic 'orders' partition 0 is not of streamstate; it is overwritten" in caplog.text


async def test_who_was_taken_over_stops_at_its_next_report_and_writes_nothing(group: MemoryGroup) -> None:
    old, new = reports(group, "dir-a", epoch=8), reports(group, "dir-b", takes_over=True)
    await old.claim([HERE], {HERE: at(5)})
    assert await new.claim([HERE], {HERE: at(1)}) == ""
    old.add({HERE: at(6)})
    await idle(old)
    assert "data directory dir-b (start 1) has taken over" in old.loss
    assert "this process, on data directory dir-a (start 8), stops" in old.loss
    assert group.position() == 1
    await old.close()
    assert group.position() == 1


async def test_who_was_taken_over_finds_out_without_anything_to_report(group: MemoryGroup) -> None:
    old = reports(group, "dir-a")
    await old.claim([HERE], {HERE: at(5)})
    await reports(group, "dir-b", takes_over=True).claim([HERE], {HERE: at(1)})
    await old.check()
    assert "dir-b" in old.loss


async def test_a_report_that_slips_in_behind_a_take_over_stops_the_old_one_and_not_the_new_one(
    group: MemoryGroup,
) -> None:
    old, new = reports(group, "dir-a", epoch=9), reports(group, "dir-b", takes_over=True)
    await old.claim([HERE], {HERE: at(5)})
    assert await new.claim([HERE], {HERE: at(1)}) == ""
    taken_over = dict(group.offsets)
    # The old one has looked before the other took over, and writes after it.
    group.offsets[HERE] = old._ownership.offset(at(5))
    group.meanwhile.append(lambda: group.offsets.update(taken_over))
    old.add({HERE: at(6)})
    await idle(old)
    assert group.position() == 6 and not old.loss, "the race that this test is about did not happen"
    new.add({HERE: at(2)})
    await idle(new)
    assert not new.loss and group.position() == 2
    old.add({HERE: at(7)})
    await idle(old)
    assert "dir-b" in old.loss and group.position() == 2


async def test_of_two_first_starts_at_the_same_moment_exactly_one_stops(group: MemoryGroup) -> None:
    both = [reports(group, "dir-a"), reports(group, "dir-b")]
    assert [await each.claim([HERE], {}) for each in both] == ["", ""]
    for round_ in range(1, 4):
        for each in both:
            each.add({HERE: at(round_)})
            await idle(each)
    assert sorted(bool(each.loss) for each in both) == [False, True]


async def test_a_report_that_failed_is_made_up_for_and_told_once(
    group: MemoryGroup, caplog: pytest.LogCaptureFixture
) -> None:
    ours = reports(group, "dir-a")
    await ours.claim([HERE], {})
    group.failures += [ClientError("no answer within 3 s")] * 3
    ours.add({HERE: at(5)})
    await idle(ours)
    assert group.position() == 5
    assert caplog.text.count("offsets not reported, lag tools show older ones: no answer within 3 s") == 1


async def test_a_claim_waits_for_a_coordinator_that_moves_but_not_for_ever(
    group: MemoryGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    group.failures += [ClientError("Broker: Not coordinator")] * 2
    assert await reports(group, "dir-a").claim([HERE], {HERE: at(5)}) == ""
    monkeypatch.setattr(_reports, "CLAIM_S_MAX", -1)
    group.failures += [ClientError("Broker: Group authorization failed")]
    with pytest.raises(ClientError, match="authorization"):
        await reports(group, "dir-a", epoch=2).claim([HERE], {HERE: at(5)})


@pytest.mark.parametrize("left", [{}, {HERE: GroupOffset(2)}], ids=["expired", "overwritten by a tool"])
async def test_what_should_be_there_is_put_back(group: MemoryGroup, left: Mapping[Partition, GroupOffset]) -> None:
    ours = reports(group, "dir-a")
    await ours.claim([HERE], {HERE: at(5)})
    mark = group.offsets[HERE]
    group.offsets = dict(left)
    await ours.check()
    await idle(ours)
    assert group.offsets == {HERE: mark}
    await ours.check()
    await idle(ours)
    assert group.writes == 2


async def test_nothing_is_reported_of_a_topic_that_was_forgotten(group: MemoryGroup) -> None:
    ours = reports(group, "dir-a")
    await ours.claim([HERE], {})
    group.failures.append(ClientError("not now"))
    ours.add({HERE: at(5), ("payments", 0): at(3)})
    ours.forget(["orders"])
    await idle(ours)
    assert group.offsets.keys() == {("payments", 0)}


async def test_the_last_report_is_made_at_the_close(group: MemoryGroup) -> None:
    ours = reports(group, "dir-a")
    await ours.claim([HERE], {})
    ours.add({HERE: at(5)})
    await ours.close()
    assert group.position() == 5


def test_ranks_are_total_so_that_never_both_go_on() -> None:
    low = Mark(term=1, nonce="b", directory="dir-a", epoch=9, topic_id="")
    assert low.rank < Mark(1, "c", "dir-b", 1, "").rank < Mark(2, "a", "dir-b", 1, "").rank


# On a cluster: sources, and Apps.


@asynccontextmanager
async def opened(
    servers: str, spec: SubscriptionSpec, positions: Mapping[PartitionId, int], owner: Owner
) -> AsyncIterator[Source]:
    source = Kafka(servers).source(spec)
    assert isinstance(source, Owned)
    source.own(owner)
    try:
        await source.open(positions)
        yield source
    finally:
        await source.close()


async def test_a_source_that_another_took_over_says_so_instead_of_more_records(kafka_broker: Broker) -> None:
    topic, servers = unique("owned"), kafka_broker.bootstrap_servers
    kafka_broker.create_topic(topic, 1)
    send(servers, topic, [b"0", b"1", b"2"])
    spec = subscription(topic)
    async with opened(servers, spec, {}, Owner("dir-a", 1)) as first:
        topic_id = (await batch(first)).topic_ids[topic]
        first.report({PartitionId(topic, topic_id, 0): 1})
        await until(lambda: kafka_broker.group_offsets(spec.name) == {(topic, 0): 1})
        with pytest.raises(SourceError, match="its offsets are reported by data directory dir-a"):
            async with opened(servers, spec, {}, Owner("dir-b", 1)):
                pass
        held = {PartitionId(topic, topic_id, 0): 2}
        async with opened(servers, spec, held, Owner("dir-b", 2, takes_over=True)) as second:
            assert kafka_broker.group_offsets(spec.name) == {(topic, 0): 2}, "a claim is there when the source is open"
            assert values_of((await batch(second)).records) == [b"2"]
            first.report({PartitionId(topic, topic_id, 0): 3})
            _, stopped = await read_until_stopped(first)
    assert isinstance(stopped, TakenOver)
    assert (
        f"consumer group '{spec.name}' on Kafka 'kafka' at {servers}: data directory dir-b (start 2)" in stopped.message
    )
    assert kafka_broker.group_offsets(spec.name) == {(topic, 0): 2}


COUNT = StateKey[int]("count", default=0)


def counting(servers: str, topic: str) -> App:
    counters = VirtualObject("Counter")

    @subscribe(topic, name=f"{topic}-counting")
    @counters.handler
    async def count(ctx: ObjectContext, step: int) -> None:
        ctx.set(COUNT, await ctx.get(COUNT) + step)

    return App([counters], name="counting", connectors=[Kafka(servers)])


async def counted(running: Running, total: int) -> None:
    """Wait until so much was counted, and not more."""
    async with asyncio.timeout(WAIT_S_MAX):
        while (found := running.engine.object_state("Counter", "key").get("count", b"0")) != b"%d" % total:
            assert int(found) < total
            await asyncio.sleep(0.01)


async def reported(servers: str, group: str, topic: str, position: int) -> None:
    """Wait until that position of partition 0 is what the group says; the mock cluster has no admin client's answer."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": group, "log_level": 0})

    def is_there() -> bool:
        (found,) = consumer.committed([TopicPartition(topic, 0)], timeout=WAIT_S_MAX)
        return bool(found.offset == position)

    try:
        await until(is_there)
    finally:
        consumer.close()


async def test_a_second_directory_is_refused_and_with_take_over_stops_the_first_app_as_a_whole(
    cluster: MockCluster, tmp_path: Path
) -> None:
    topic, servers = unique("steps"), cluster.bootstrap_servers
    cluster.create_topics(topic)
    send(servers, topic, [b"1"] * 3)
    app = counting(servers, topic)
    with pytest.raises(SourceError, match="has taken over"):
        async with app.embedded(tmp_path / "first") as first:
            await counted(first, 3)
            await reported(servers, f"{topic}-counting", topic, 3)
            with pytest.raises(SourceError, match="both would handle every record"):
                async with app.embedded(tmp_path / "second"):
                    pass
            send(servers, topic, [b"1"])
            await counted(first, 4)  # a start that is refused disturbs nobody
            async with app.embedded(tmp_path / "second", take_over=True) as second:
                await counted(second, 4)
                await reported(servers, f"{topic}-counting", topic, 4)
                send(servers, topic, [b"1"])
                await counted(second, 5)
                async with asyncio.timeout(WAIT_S_MAX):
                    await first.failed()
    async with app.embedded(tmp_path / "second") as second:
        await counted(second, 5)


async def test_a_restored_backup_is_refused_while_its_original_was_ahead_and_goes_on_with_take_over(
    cluster: MockCluster, tmp_path: Path
) -> None:
    topic, servers = unique("steps"), cluster.bootstrap_servers
    cluster.create_topics(topic)
    app = counting(servers, topic)
    send(servers, topic, [b"1"] * 2)
    async with app.embedded(tmp_path / "original") as running:
        await counted(running, 2)
    shutil.copytree(tmp_path / "original", tmp_path / "backup")
    send(servers, topic, [b"1"] * 3)
    async with app.embedded(tmp_path / "original") as running:
        await counted(running, 5)
    with pytest.raises(SourceError, match="an older copy, a restored backup perhaps"):
        async with app.embedded(tmp_path / "backup"):
            pass
    async with app.embedded(tmp_path / "backup", take_over=True) as running:
        await counted(running, 5)
    with pytest.raises(SourceError, match="an older copy"):
        async with app.embedded(tmp_path / "original"):
            pass


async def test_the_command_says_who_owns_the_records_and_takes_over_when_told(
    cluster: MockCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cluster.create_topics("driver-updates")
    shop(tmp_path, cluster.bootstrap_servers)
    group = "drivers.Driver.moved"
    async with started("run", "shop:app", "--data", "first") as first:
        await first.says(RUNNING)
        producer = Producer({"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0})
        producer.produce("driver-updates", b'{"lat": 1, "lon": 2}', b"driver-7", 0)
        assert producer.flush(WAIT_S_MAX) == 0
        await reported(cluster.bootstrap_servers, group, "driver-updates", 1)
        async with started("run", "shop:app", "--data", "second") as second:
            assert await second.exit_code() == 1
            assert "its offsets are reported by data directory" in second.output
        async with started("run", "shop:app", "--data", "second", "--take-over") as second:
            await second.says(RUNNING)
            producer.produce("driver-updates", b'{"lat": 3, "lon": 4}', b"driver-7", 0)
            assert producer.flush(WAIT_S_MAX) == 0
            assert await first.exit_code() == 1
            assert "has taken over, and this process" in first.output
            second.signal(signal.SIGTERM)
            assert await second.exit_code() == 0
