"""The sink of one cluster."""

from __future__ import annotations

from collections.abc import Sequence

from streamstate.errors import SinkError
from streamstate.storage import OutboxMessage
from streamstate_kafka._client import ClientError, KafkaClient


class KafkaSink:
    """A `Sink` on one Kafka cluster: idempotent, in order per key, at least once.

    Every message carries its `streamstate-message-id` header, the same on every attempt. While the cluster is away,
    `publish` waits.
    """

    def __init__(self, cluster: str, client: KafkaClient) -> None:
        self._cluster = cluster
        self._client = client
        self._writer = client.writer()

    async def open(self) -> None:
        try:
            await self._client.topics()
        except ClientError as error:
            raise SinkError(f"{self._cluster} cannot be published to: {error}") from None

    async def publish(self, messages: Sequence[OutboxMessage]) -> None:
        if messages:
            await self._writer.write(messages)

    async def close(self) -> None:
        await self._writer.close()
        await self._client.close()
