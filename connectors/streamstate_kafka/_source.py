"""The source of one subscription: which partitions, from where, and what to do when one cannot be read on.

S1: a record is given only under the topic id under which its partition was assigned.
S2: a position is never moved in silence: one that the cluster no longer has stops the source, with the choices.
S3: what appears while the source is open (a partition, a topic, a topic made anew) is read from its beginning, since
all of it is newer than the subscription; only `Start.at` still asks for its moment.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence

from streamstate.definitions import Start, SubscriptionSpec
from streamstate.errors import SourceError
from streamstate.ingress import PartitionId, Records, SourceStopped
from streamstate_kafka._client import Capability, ClientError, Fault, FaultKind, KafkaClient, Partition, require
from streamstate_kafka._notices import LOGGER, Notices
from streamstate_kafka._options import Options
from streamstate_kafka._topics import matching, missing_topic

REFRESH_OPTION = "topic.metadata.refresh.interval.ms"
REFRESH_MS = 30_000
REFRESH_AFTER_FAULT_S_MIN = 1.0  # a topic that is being deleted gives a fault at every fetch
REPORT_INTERVAL_S = 0.5  # lag tools look every few seconds; a commit of offsets at each of ours would be waste


class KafkaSource:
    """A `Source` on one Kafka cluster."""

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
        self._assigned: set[Partition] = set()
        self._unread: set[Partition] = set()
        self._faults: deque[Fault] = deque()
        self._stopped: SourceStopped | None = None
        self._reports: dict[Partition, int] = {}
        self._report_timer: asyncio.TimerHandle | None = None

    async def open(self, positions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        """See the port. Takes at most some ten seconds, also when the cluster does not answer."""
        try:
            there = await self._client.topics()
            wanted = self._subscription.topics
            for topic in wanted if isinstance(wanted, tuple) else ():
                if topic not in there:
                    raise SourceError(self._named(missing_topic(topic, there, self._cluster, self._servers)))
            if self._subscription.start.kind == "at":
                require(self._client, Capability.OFFSETS_FOR_TIMES, self._named("Start.at(...)"), SourceError)
            starts = await self._assign_new(there, positions, self._subscription.start)
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
                if self._unread:
                    self._unread -= {(record.topic, record.partition) for record in fetched.records}
                return Records(fetched.records, dict(self._topic_ids))
        return self._stopped

    def report(self, positions: Mapping[PartitionId, int]) -> None:
        """See the port. Sent twice a second at most."""
        for partition, position in positions.items():
            # An older incarnation's position would be a lie about the topic of today.
            if self._topic_ids.get(partition.topic) == partition.topic_id:
                self._reports[partition.topic, partition.partition] = position
        if self._reports and self._report_timer is None:
            loop = asyncio.get_running_loop()
            self._report_timer = loop.call_later(REPORT_INTERVAL_S, self._send_reports)

    async def close(self) -> None:
        """See the port. Takes some seconds at most, also when the cluster does not answer."""
        self._stopped = SourceStopped(self._named("the source is closed"))
        if self._report_timer is not None:
            self._report_timer.cancel()
            self._report_timer = None
        await self._reader.close(self._reports)
        await self._client.close()

    def _send_reports(self) -> None:
        self._report_timer = None
        self._reader.report(self._reports)
        self._reports = {}

    async def _refresh(self) -> None:
        """Look for new partitions, new topics, and topics that were made anew; again at once if this is cancelled."""
        try:
            there = await self._client.topics()
            start = self._subscription.start
            await self._assign_new(there, {}, start if start.kind == "at" else Start.earliest())
        except ClientError as error:
            self._notices.warn("refresh", f"cannot look for new partitions on {self._cluster}: {error}")
        self._refresh_due = time.monotonic() + self._refresh_s

    async def _assign_new(
        self, there: Mapping[str, int], positions: Mapping[PartitionId, int], start: Start
    ) -> Mapping[Partition, int]:
        topics = matching(self._subscription.topics, there)
        ids = await self._client.topic_ids(topics)
        again = {topic for topic in ids if self._topic_ids.get(topic, ids[topic]) != ids[topic]}
        if again:
            await self._forget(again)
        new = [(topic, n) for topic in ids for n in range(there[topic]) if (topic, n) not in self._assigned]
        if not new:
            return {}
        known = _known(new, ids, positions)
        without = [partition for partition in new if partition not in known]
        starts = await self._reader.starts(without, start) if without else {}
        await self._reader.assign({**known, **starts})
        self._topic_ids.update(ids)
        self._assigned.update(new)
        self._unread.update(starts)
        return starts

    async def _forget(self, topics: set[str]) -> None:
        gone = [partition for partition in self._assigned if partition[0] in topics]
        await self._reader.unassign(gone)
        self._assigned.difference_update(gone)
        self._unread.difference_update(gone)
        for topic in topics:
            LOGGER.warning("%s", self._named(f"topic {topic!r} was made anew; it is read from its beginning"))
            del self._topic_ids[topic]
        self._reports = {key: offset for key, offset in self._reports.items() if key[0] not in topics}

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
        try:
            low, high = await self._reader.bounds(partition)
            if partition in self._unread:  # the log was cut between finding its start and the first fetch
                await self._reader.assign({partition: min(max(fault.offset, low), high)})
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

    def _named(self, text: str) -> str:
        return f"subscription {self._subscription.name!r} at {self._subscription.site}: {text}"


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
