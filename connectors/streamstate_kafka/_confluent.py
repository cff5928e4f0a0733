"""confluent-kafka behind the client port: cluster metadata, and the making of readers and writers.

Blocking calls run on one thread of each object's own, so that they never wait for the application's thread pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from streamstate_kafka._client import Capability, ClientError, Reader, Writer
from streamstate_kafka._codes import LocalError
from streamstate_kafka._confluent_reader import ConfluentReader
from streamstate_kafka._confluent_writer import ConfluentWriter
from streamstate_kafka._notices import LOGGER
from streamstate_kafka._options import Options

ANSWER_S_MAX = 5.0  # a cluster that is there answers in milliseconds; open() must fail while a person still watches

# librdkafka's mock cluster calls itself so. It has no controller: a request to one waits for its whole timeout.
MOCK_CLUSTER = "mockCluster"
MOCK_LACKS = frozenset(Capability)

P = ParamSpec("P")
T = TypeVar("T")


class ConfluentClient:
    """One cluster through librdkafka. Connects at the first question."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._capabilities = frozenset(Capability)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kafka-admin")
        self._admin: AdminClient | None = None
        self._last_error = ""

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self._capabilities

    async def topics(self) -> Mapping[str, int]:
        return await self._call(self._topics)

    async def topic_ids(self, topics: Sequence[str]) -> Mapping[str, str]:
        if not topics or Capability.TOPIC_IDS not in self._capabilities:
            return dict.fromkeys(topics, "")
        return await self._call(self._topic_ids, topics)

    def reader(self, group: str, options: Mapping[str, str]) -> Reader:
        return ConfluentReader(self._options.merged(options), group)

    def writer(self) -> Writer:
        return ConfluentWriter(self._options)

    async def close(self) -> None:
        self._thread.shutdown(wait=False)
        self._admin = None

    async def _call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: function(*args, **kwargs))
        except KafkaException as error:
            raise ClientError(self._describe(error.args[0])) from None

    def _connected(self) -> AdminClient:
        if self._admin is None:
            settings: dict[str, Any] = {**self._options.common(), "error_cb": self._on_error}
            self._admin = AdminClient(settings, logger=LOGGER)
        return self._admin

    def _topics(self) -> dict[str, int]:
        admin = self._connected()
        try:
            metadata = admin.list_topics(timeout=ANSWER_S_MAX)
        finally:
            admin.poll(0)  # serves error and log callbacks
        if str(metadata.cluster_id).startswith(MOCK_CLUSTER):
            self._capabilities = frozenset(Capability) - MOCK_LACKS
        there = metadata.topics.items()
        return {name: len(topic.partitions) for name, topic in there if topic.error is None}

    def _topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        asked = self._connected().describe_topics(TopicCollection(list(topics)), request_timeout=ANSWER_S_MAX)
        ids = {}
        for name, answer in asked.items():
            try:
                ids[name] = str(answer.result().topic_id)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
        return ids

    def _on_error(self, error: KafkaError) -> None:
        self._last_error = error.str()

    def _describe(self, error: KafkaError) -> str:
        text = error.str()
        if error.code() in (LocalError.TRANSPORT, LocalError.TIMED_OUT, LocalError.ALL_BROKERS_DOWN):
            cause = f" ({self._last_error})" if self._last_error else ""
            text = (
                f"no answer within {ANSWER_S_MAX:.0f} s{cause}; check the address, that the broker runs, and that "
                "security.protocol fits its listener"
            )
        return self._options.scrub(text)
