"""The outbox: messages of committed turns, relayed in order, at least once, with the same id every time."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping

from streamstate.engine._ports import Sink
from streamstate.errors import SinkError
from streamstate.storage import OutboxMessage, Store

_logger = logging.getLogger("streamstate.outbox")

CHUNK_MAX = 5_000  # messages of one hand-over to a sink
IN_MEMORY_MAX = 50_000  # per cluster; with Kafka down for long the rest waits in the store
RETRY_PAUSE_S_MAX = 10.0


class Relay:
    """The messages of one cluster, on their way.

    Args:
        acknowledged: is told the position up to which the sink has everything.
    """

    def __init__(self, cluster: str, sink: Sink, store: Store, acknowledged: Callable[[str, int], None]) -> None:
        self._cluster = cluster
        self._sink = sink
        self._store = store
        self._acknowledged = acknowledged
        self._waiting: deque[OutboxMessage] = deque()
        self._last_read = 0
        self._is_spilled = True  # what an earlier process left behind is in the store
        self._has_work = asyncio.Event()
        self._has_work.set()
        self._is_sending = False
        self.last_error: SinkError | None = None

    @property
    def is_idle(self) -> bool:
        return not self._waiting and not self._is_spilled and not self._is_sending

    def add(self, message: OutboxMessage) -> None:
        """A message that is durable now."""
        if self._is_spilled or len(self._waiting) >= IN_MEMORY_MAX:
            self._is_spilled = True
        else:
            self._waiting.append(message)
            self._last_read = message.position
        self._has_work.set()

    async def run(self) -> None:
        """Relay until cancelled."""
        await self._open()
        while True:
            await self._has_work.wait()
            chunk = self._next_chunk()
            if not chunk:
                self._has_work.clear()
                continue
            self._is_sending = True
            await self._send(chunk)
            self._is_sending = False
            self._acknowledged(self._cluster, chunk[-1].position)

    async def close(self) -> None:
        """Disconnect; what was not acknowledged goes out again at the next start."""
        await self._sink.close()

    async def _open(self) -> None:
        pause_s = 0.5
        while True:
            try:
                await self._sink.open()
            except SinkError as error:
                self._tell(error)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, RETRY_PAUSE_S_MAX)
            else:
                self.last_error = None
                return

    def _next_chunk(self) -> list[OutboxMessage]:
        if not self._waiting and self._is_spilled:
            stored = self._store.outbox(self._cluster, self._last_read, CHUNK_MAX)
            self._is_spilled = len(stored) == CHUNK_MAX
            if stored:
                self._last_read = stored[-1].position
            self._waiting.extend(stored)
        return [self._waiting.popleft() for _ in range(min(CHUNK_MAX, len(self._waiting)))]

    async def _send(self, chunk: list[OutboxMessage]) -> None:
        pause_s = 0.5
        while chunk:
            try:
                await self._sink.publish(chunk)
            except SinkError as error:
                self._tell(error)
                chunk = chunk[error.acknowledged :]
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, RETRY_PAUSE_S_MAX)
            else:
                self.last_error = None
                return

    def _tell(self, error: SinkError) -> None:
        if self.last_error is None or str(self.last_error) != str(error):
            _logger.error(
                "publishing to cluster %s waits: %s. It is tried again until it succeeds", self._cluster, error
            )
        self.last_error = error


class Outbox:
    """All relays, and the positions of new messages."""

    def __init__(self, sinks: Mapping[str, Sink], store: Store, acknowledged: Callable[[str, int], None]) -> None:
        self._position = store.header.outbox_position
        self.relays = {cluster: Relay(cluster, sink, store, acknowledged) for cluster, sink in sinks.items()}

    def next_position(self) -> int:
        self._position += 1
        return self._position

    def release(self, messages: list[OutboxMessage]) -> None:
        """These are durable: on their way with them."""
        for message in messages:
            relay = self.relays.get(message.cluster)
            if relay is not None:
                relay.add(message)

    @property
    def is_idle(self) -> bool:
        return all(relay.is_idle for relay in self.relays.values())
