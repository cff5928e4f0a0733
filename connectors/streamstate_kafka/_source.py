"""The source of one subscription: which partitions, from where, and what to do when one cannot be read on.

S1: a record is given only under the topic id under which its partition was assigned. Clients do not say of which
incarnation of a topic a record is, and read on in a new one if that is longer already than the old one was read: ids
are looked at whenever reading pauses, and where records of both may have been taken for one, the source stops.
S2: a position is never moved in silence: one that the cluster no longer has stops the source, with the choices.
S3: what appears after the subscription began (a partition, a topic that a pattern matches, a topic made anew) is read
from its beginning, since all of it is newer than the subscription; only `Start.at` still asks for its moment. That
holds also for what appeared while nobody was reading.
S4: a group that another data directory reports to is neither read nor reported to (`_ownership`, `_reports`).
"""

from __future__ import annotations

import re
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence

from streamstate.definitions import Start, SubscriptionSpec
from streamstate.errors import SourceError
from streamstate.ingress import Owner, PartitionId, Records, SourceStopped, TakenOver
from streamstate_kafka._client import Capability, ClientError, Fault, FaultKind, KafkaClient, Partition, require
from streamstate_kafka._notices import LOGGER, Notices
from streamstate_kafka._options import Options
from streamstate_kafka._ownership import Ownership, Position
from streamstate_kafka._reports import Reports
from streamstate_kafka._topics import matching, missing_topic

REFRESH_OPTION = "topic.metadata.refresh.interval.ms"
REFRESH_MS = 30_000
LOOK_S_MIN = 1.0  # how often topic ids are looked at, if a topic is quiet after each record
REFRESH_AFTER_FAULT_S_MIN = 1.0  # a topic that is being deleted gives a fault at every fetch


class KafkaSource:
    """A `Source` on one Kafka cluster, and `Owned`; without an owner, it takes over from whoever was there."""

    def __init__(self, cluster: str, subscription: SubscriptionSpec, client: KafkaClient, options: Options) -> None:
        self._cluster = cluster
        self._subscription = subscription
        self._client = client
        self._servers = options.bootstrap_servers
        self._reader = client.reader(subscription.name, subscription.options)
        self._notices = Notices(f"subscription {subscription.name!r}")
        self._refresh_s = _refresh_s(options)
        self._refresh_due = 0.0
        self._topic_ids: dict[str, str] = {}
        self._assigned: dict[Partition, int] = {}  # with the position known when the topic ids were looked at last
        self._has_read = False  # anything since then
        self._look_due = 0.0
        self._unread: dict[Partition, int] = {}  # with their starts
        self._faults: deque[Fault] = deque()
        self._stopped: SourceStopped | None = None
        self._is_closed = False
        self.own(Owner(uuid.uuid4().hex, epoch=1, takes_over=True))

    def own(self, owner: Owner) -> None:
        """See the port."""
        self._reports = Reports(self._subscription.name, self._reader, Ownership(owner))

    async def open(self, positions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        """See the port. Takes at most some fifteen seconds, also when the cluster does not answer."""
        try:
            there = await self._client.topics()
            wanted = self._subscription.topics
            for topic in wanted if isinstance(wanted, tuple) else ():
                if topic not in there:
                    raise SourceError(self._named(missing_topic(topic, there, self._cluster, self._servers)))
            if self._subscription.start.kind == "at":
                require(self._client, Capability.OFFSETS_FOR_TIMES, self._named("Start.at(...)"), SourceError)
            starts = await self._assign_first(there, positions)
        except ClientError as error:
            raise SourceError(self._named(f"{self._cluster} cannot be read: {error}")) from None
        if not self._assigned:
            LOGGER.info("%s", self._named(f"no topic on {self._cluster} matches {self._subscription.topics!r} yet"))
        self._refresh_due = time.monotonic() + self._refresh_s
        return {
            PartitionId(topic, self._topic_ids[topic], number): offset for (topic, number), offset in starts.items()
        }

    async def poll(self) -> Records | SourceStopped:
        while self._stopped is None:
            if self._reports.loss:
                self._stopped = TakenOver(self._named(self._of_group(self._reports.loss)))
                break
            if time.monotonic() >= self._refresh_due:
                await self._refresh()
            while self._faults:
                await self._handle(self._faults[0])
                self._faults.popleft()
            if self._stopped is not None:
                break
            fetched = await self._reader.read()
            self._faults.extend(fetched.faults)  # for the next round: an await here could lose the records
            if fetched.records:
                self._has_read = True
                if self._unread:
                    for partition in {(record.topic, record.partition) for record in fetched.records}:
                        self._unread.pop(partition, None)
                return Records(fetched.records, dict(self._topic_ids))
            if self._has_read and time.monotonic() >= self._look_due:
                await self._look()
        return self._stopped

    def report(self, positions: Mapping[PartitionId, int]) -> None:
        """See the port. Sent twice a second at most."""
        self._reports.add(
            {
                (partition.topic, partition.partition): Position(offset, partition.topic_id)
                for partition, offset in positions.items()
                # An older incarnation's position would be a lie about the topic of today.
                if self._topic_ids.get(partition.topic) == partition.topic_id
            }
        )

    async def close(self) -> None:
        """See the port. Takes some seconds at most, also when the cluster does not answer."""
        if self._is_closed:
            return
        self._is_closed = True
        self._stopped = SourceStopped(self._named("the source is closed"))
        await self._reports.close()
        await self._reader.close()
        await self._client.close()

    async def _refresh(self) -> None:
        """Look for new partitions, new topics, and topics that were made anew; again at once if this is cancelled."""
        try:
            await self._assign_new(await self._client.topics())
            await self._reports.check()
        except ClientError as error:
            self._notices.warn("refresh", f"cannot look for new partitions on {self._cluster}: {error}")
        self._refresh_due = time.monotonic() + self._refresh_s

    async def _look(self) -> None:
        """Whether the topics are still those that were read."""
        self._look_due = time.monotonic() + LOOK_S_MIN
        try:
            ids = await self._client.topic_ids(list(self._topic_ids))
        except ClientError:
            self._look_due = self._refresh_due  # which tells why; until then, asking would only hold up reading
            return
        if any(ids.get(topic, "") != known for topic, known in self._topic_ids.items()):
            self._refresh_due = 0.0
        else:
            self._are_the_same()

    def _are_the_same(self) -> None:
        """The topics are those that were read."""
        self._has_read = False
        for partition in self._assigned:
            self._assigned[partition] = max(self._assigned[partition], self._reports.position(partition))

    async def _assign_first(
        self, there: Mapping[str, int], positions: Mapping[PartitionId, int]
    ) -> Mapping[Partition, int]:
        """Where the partitions start that have no position."""
        ids = await self._client.topic_ids(matching(self._subscription.topics, there))
        partitions = _partitions(ids, there)
        known = _known(partitions, ids, positions)
        held = {partition: Position(offset, ids[partition[0]]) for partition, offset in known.items()}
        refusal = await self._reports.claim(partitions, held)
        if refusal:
            raise SourceError(self._named(self._of_group(refusal)))
        read_before = {partition.topic for partition in positions}
        for topic in sorted(read_before & ids.keys() - {topic for topic, _ in known}):
            self._tell_made_anew(topic)
        if isinstance(self._subscription.topics, re.Pattern) and positions:
            read_before = set(ids)
        without = [partition for partition in partitions if partition not in known]
        starts = {
            **await self._starts([each for each in without if each[0] in read_before], self._later_start()),
            **await self._starts([each for each in without if each[0] not in read_before], self._subscription.start),
        }
        await self._assign(ids, {**known, **starts})
        self._unread.update(starts)
        return starts

    async def _assign_new(self, there: Mapping[str, int]) -> None:
        """What has appeared, or was made anew."""
        ids = await self._client.topic_ids(matching(self._subscription.topics, there))
        again = {topic for topic in ids if self._topic_ids.get(topic, ids[topic]) != ids[topic]}
        if again:
            self._stopped = await self._mixed([each for each in _partitions(ids, there) if each[0] in again])
            await self._forget(again)
        else:
            self._are_the_same()
        new = [partition for partition in _partitions(ids, there) if partition not in self._assigned]
        if new:
            starts = await self._starts(new, self._later_start())
            await self._assign(ids, starts)
            self._unread.update(starts)

    async def _mixed(self, anew: Sequence[Partition]) -> SourceStopped | None:
        """S1: whether records of these new logs may have been given as those of the old ones.

        If the last record that was given lies beyond the end of the new log, it was of the old one, and so were all.
        """
        for partition in anew if self._has_read else ():
            position = await self._reader.position(partition) if partition in self._assigned else -1
            known = self._assigned.get(partition, -1)
            if position > known and (await self._reader.bounds(partition))[1] >= position:
                return SourceStopped(self._named(self._mixed_up(partition, known)))
        return None

    def _mixed_up(self, partition: Partition, position: int) -> str:
        topic, number = partition
        return (
            f"topic {topic!r} was made anew while it was read, and has grown as long as the old one at once: what was "
            f"read from offset {position} of partition {number} on may be of the new one, handled before what is ahead "
            "of it. Choose: start again, which reads the new topic from its beginning; or restore a backup first"
        )

    def _later_start(self) -> Start:
        """S3."""
        start = self._subscription.start
        return start if start.kind == "at" else Start.earliest()

    async def _starts(self, partitions: Sequence[Partition], start: Start) -> Mapping[Partition, int]:
        return await self._reader.starts(partitions, start) if partitions else {}

    async def _assign(self, ids: Mapping[str, str], positions: Mapping[Partition, int]) -> None:
        if positions:
            await self._reader.assign(positions)
        self._topic_ids.update(ids)
        self._assigned.update(positions)

    async def _forget(self, topics: set[str]) -> None:
        gone = [partition for partition in self._assigned if partition[0] in topics]
        await self._reader.unassign(gone)
        for partition in gone:
            del self._assigned[partition]
            self._unread.pop(partition, None)
        for topic in topics:
            self._tell_made_anew(topic)
            del self._topic_ids[topic]
        self._reports.forget(topics)

    def _tell_made_anew(self, topic: str) -> None:
        where = "its beginning" if self._later_start().kind == "earliest" else "the moment of its start"
        LOGGER.warning("%s", self._named(f"topic {topic!r} was made anew; it is read from {where}"))

    async def _handle(self, fault: Fault) -> None:
        if fault.kind is FaultKind.FATAL:
            self._stopped = SourceStopped(self._named(f"{self._cluster} cannot be read on: {fault.text}; restart"))
        elif fault.kind is FaultKind.OUT_OF_RANGE and fault.partition is not None:
            await self._out_of_range(fault.partition, fault)
        else:
            about = f"{fault.partition[0]}[{fault.partition[1]}]: " if fault.partition else ""
            self._notices.warn(about or "cluster", f"{about}{fault.text}; retrying")
            if fault.partition:  # perhaps the topic was deleted, and is made anew at this moment
                self._refresh_due = min(self._refresh_due, time.monotonic() + REFRESH_AFTER_FAULT_S_MIN)

    async def _out_of_range(self, partition: Partition, fault: Fault) -> None:
        topic_id = self._topic_ids.get(partition[0])
        await self._refresh()
        if self._topic_ids.get(partition[0]) != topic_id:
            return
        if self._unread.get(partition, fault.offset) != fault.offset:
            return  # of the incarnation before, or of an assignment before
        try:
            low, high = await self._reader.bounds(partition)
            if partition in self._unread:  # the log was cut between finding its start and the first fetch
                self._unread[partition] = start = min(max(fault.offset, low), high)
                about = f"{partition[0]}[{partition[1]}]"
                self._notices.warn(about, f"{about}: begins at {start}; what was at {fault.offset} is there no more")
                await self._reader.assign({partition: start})
                return
        except ClientError as error:
            self._stopped = SourceStopped(self._named(f"{fault.text}, and {self._cluster} does not answer: {error}"))
            return
        self._stopped = SourceStopped(self._named(self._lost_position(partition, fault.offset, low, high)))

    def _lost_position(self, partition: Partition, position: int, low: int, high: int) -> str:
        topic, number = partition
        name = self._subscription.name
        if position < low:
            loss = f"the {low - position} records from {position} were deleted before they were read"
        else:
            loss = "the log is shorter than what was read of it, so records of it were lost or the topic was replaced"
        seek = f"streamstate offsets seek {name} --topic {topic} --partition {number} --to"
        return (
            f"position {position} of topic {topic!r} partition {number} is not on {self._cluster}, which has offsets "
            f"{low} to {high}: {loss}. Choose: restore the records and start again; go on with what is there "
            f"({seek} {low}); or only with what comes now ({seek} {high})"
        )

    def _of_group(self, text: str) -> str:
        return f"consumer group {self._subscription.name!r} on {self._cluster}: {text}"

    def _named(self, text: str) -> str:
        return f"subscription {self._subscription.name!r} at {self._subscription.site}: {text}"


def _partitions(ids: Mapping[str, str], there: Mapping[str, int]) -> list[Partition]:
    return [(topic, number) for topic in ids for number in range(there[topic])]


def _known(
    partitions: Sequence[Partition], ids: Mapping[str, str], positions: Mapping[PartitionId, int]
) -> dict[Partition, int]:
    """The positions of these partitions; where either side shows no topic id, name and number must do."""
    known = {}
    for topic, number in partitions:
        exact = positions.get(PartitionId(topic, ids[topic], number))
        loose = [
            position
            for partition, position in positions.items()
            if (partition.topic, partition.partition) == (topic, number) and not (partition.topic_id and ids[topic])
        ]
        if exact is not None:
            known[topic, number] = exact
        elif loose:
            known[topic, number] = max(loose)
    return known


def _refresh_s(options: Options) -> float:
    text = options.values.get(REFRESH_OPTION, str(REFRESH_MS))
    return int(text) / 1000 if text.isdecimal() and int(text) > 0 else REFRESH_MS / 1000
