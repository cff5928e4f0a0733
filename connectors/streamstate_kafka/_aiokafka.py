"""aiokafka behind the client port: cluster metadata, and the making of readers and writers.

All of it runs on the application's event loop. What this client cannot do is not among its capabilities: it shows no
topic ids and no leader epochs, so that a topic made anew is only noticed where a position no longer fits; its commit of
offsets in a transaction is the first version, without the group metadata that fences (KIP-447); and it does not know
the new group protocol (KIP-848), which a source that assigns itself its partitions has no use for either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiokafka.protocol.metadata import MetadataRequest  # type: ignore[import-untyped]  # ships no types

from streamstate.errors import DefinitionError
from streamstate_kafka._aiokafka_connection import Connection, answered
from streamstate_kafka._aiokafka_logs import Complaints
from streamstate_kafka._aiokafka_options import translated
from streamstate_kafka._aiokafka_parts import CODECS, has_gssapi
from streamstate_kafka._aiokafka_reader import AiokafkaReader
from streamstate_kafka._aiokafka_writer import AiokafkaWriter
from streamstate_kafka._client import Capability, Reader, Writer
from streamstate_kafka._notices import Notices
from streamstate_kafka._options import Options

MOCK_CLUSTER = "mockCluster"  # as librdkafka's mock cluster calls itself
CAPABILITIES = frozenset({Capability.OFFSETS_FOR_TIMES})


def needs(options: Options) -> None:
    """Raises DefinitionError for an option that needs a package which is not installed."""
    codec = options.values.get("compression.type", "none")
    has_codec = CODECS[codec][1]
    if has_codec is not None and not has_codec():
        raise DefinitionError(f"compression.type {codec!r} needs another package: pip install 'aiokafka[{codec}]'")
    if options.values.get("sasl.mechanism") == "GSSAPI" and not has_gssapi:
        raise DefinitionError("sasl.mechanism 'GSSAPI' needs another package: pip install 'aiokafka[gssapi]'")


class AiokafkaClient:
    """One cluster through aiokafka. Connects at the first question."""

    def __init__(self, options: Options) -> None:
        needs(options)
        self._options = options
        self._capabilities = CAPABILITIES
        self._complaints = Complaints(Notices(f"Kafka at {options.bootstrap_servers}"), options.scrub)
        self._connection = Connection(options, self._complaints)

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self._capabilities

    async def topics(self) -> Mapping[str, int]:
        request = MetadataRequest(None, allow_auto_topic_creation=False)
        metadata = await answered(lambda: self._connection.ask(request), self._options, self._complaints)
        if str(metadata.cluster_id).startswith(MOCK_CLUSTER):
            self._capabilities = frozenset()
        self._complaints.well()
        return {name: len(partitions) for error, name, _, partitions in metadata.topics if error == 0}

    async def topic_ids(self, topics: Sequence[str]) -> Mapping[str, str]:
        return dict.fromkeys(topics, "")

    def reader(self, group: str, options: Mapping[str, str]) -> Reader:
        own = translated(options, f"subscription {group!r}")
        return AiokafkaReader(self._options.merged(own), group)

    def writer(self) -> Writer:
        return AiokafkaWriter(self._options)

    async def close(self) -> None:
        await self._connection.close()
