"""The offsets of one consumer group, and their metadata, as someone who is no member of it reads and commits them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiokafka.errors import KafkaError, for_code  # type: ignore[import-untyped]  # ships no types
from aiokafka.protocol.commit import (  # type: ignore[import-untyped]  # ships no types
    OffsetCommitRequest,
    OffsetFetchRequest,
)

from streamstate_kafka import _aiokafka_parts as parts
from streamstate_kafka._aiokafka_connection import Connection
from streamstate_kafka._client import GroupOffset, Partition

NO_GENERATION, NO_MEMBER, BROKERS_RETENTION = -1, "", -1
NO_OFFSET = -1


class Group:
    """One consumer group that we are no member of."""

    def __init__(self, name: str, connection: Connection) -> None:
        self._name = name
        self._connection = connection
        self._coordinator: int | None = None

    async def offsets(self, partitions: Sequence[Partition]) -> dict[Partition, GroupOffset]:
        """Without the partitions that have none. Raises KafkaError."""
        topics: dict[str, list[int]] = {}
        for topic, number in partitions:
            topics.setdefault(topic, []).append(number)
        answer = await self._ask(OffsetFetchRequest(self._name, list(topics.items())))
        found = {}
        for topic, told in answer.topics:
            for number, offset, metadata, code in told:
                self._raise_for(code)
                if offset != NO_OFFSET:
                    found[topic, number] = GroupOffset(offset, metadata or "")
        self._raise_for(getattr(answer, "error_code", 0))
        return found

    async def commit(self, offsets: Mapping[Partition, GroupOffset]) -> None:
        """Raises KafkaError."""
        told = parts.by_topic([(each, (offset.offset, offset.metadata)) for each, offset in offsets.items()])
        request = OffsetCommitRequest(self._name, NO_GENERATION, NO_MEMBER, BROKERS_RETENTION, told)
        answer = await self._ask(request)
        for _, partitions in answer.topics:
            for _, code in partitions:
                self._raise_for(code)

    async def _ask(self, request: object) -> parts.Response:
        try:
            if self._coordinator is None:
                self._coordinator = await self._connection.coordinator(self._name)
            return await self._connection.ask_broker(self._coordinator, request)
        except KafkaError:
            self._coordinator = None
            raise

    def _raise_for(self, code: int) -> None:
        error = for_code(code)
        if code:
            self._coordinator = None
            raise error
