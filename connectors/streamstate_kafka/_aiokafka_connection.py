"""A connection to the brokers of one cluster, and questions to whichever of them answers.

aiokafka tells only its log why no broker lets it in, and leaves the connection it tried with to close some time. So
whether one does is found out first, by a connection of our own, which is closed before we go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiokafka.conn import collect_hosts  # type: ignore[import-untyped]  # ships no types
from aiokafka.errors import KafkaConnectionError, KafkaError  # type: ignore[import-untyped]  # ships no types

from streamstate_kafka import _aiokafka_parts as parts
from streamstate_kafka._aiokafka_logs import Complaints
from streamstate_kafka._aiokafka_options import connection_settings, tls_context, uses_tls
from streamstate_kafka._client import ClientError
from streamstate_kafka._options import Options

T = TypeVar("T")

ANSWER_S_MAX = 5.0  # a cluster that is there answers in milliseconds; open() must fail while a person still watches
RETRY_S = 0.2
CLOSE_S_MAX = 2.0


class Connection:
    """Connects at the first question, and anew when none of the brokers that it knows answers any more."""

    def __init__(self, options: Options, complaints: Complaints) -> None:
        self._options = options
        self._complaints = complaints
        self._client: parts.Client | None = None
        self._tls: ssl.SSLContext | None = None
        self._connecting = asyncio.Lock()

    async def settings(self) -> dict[str, object]:
        """What an object of aiokafka needs to connect like this. Raises ClientError for a file that cannot be used."""
        if self._tls is None and uses_tls(self._options):
            try:
                self._tls = await asyncio.to_thread(tls_context, self._options)
            except OSError as error:
                raise ClientError(self._options.scrub(f"the ssl.* options cannot be used: {error}")) from None
        return connection_settings(self._options, self._tls)

    async def check(self) -> None:
        """Whether a broker lets us in. Raises KafkaError, or ClientError where to try again is of no use."""
        settings = await self.settings()
        causes = []
        with self._complaints.heard():
            for host, port, _ in collect_hosts(self._options.bootstrap_servers):
                try:
                    await self._let_in(parts.single_connection(host, port, settings))
                    return
                except ssl.SSLCertVerificationError as error:
                    raise ClientError(f"{host}:{port} shows a certificate that is not trusted: {error}") from None
                except (OSError, KafkaError) as error:
                    if isinstance(error, KafkaError) and not error.retriable:
                        raise
                    causes.append(f"{host}:{port}: {str(error) or type(error).__name__}")
        text = "; ".join(causes)
        self._complaints.tell("connect", f"no broker answers: {text}")
        raise KafkaConnectionError(text)

    async def _let_in(self, connection: parts.SingleConnection) -> None:
        is_there = True
        try:
            await connection.connect()
        except OSError as error:
            is_there = isinstance(error, TimeoutError)
            raise
        finally:
            closing = connection.close()
            if is_there:
                await self._closed(closing)

    async def connected(self) -> parts.Client:
        """Raises KafkaError if no broker answers."""
        async with self._connecting:
            if self._client is None:
                await self.check()
                client = parts.client(await self.settings())
                with self._complaints.heard():
                    try:
                        await client.bootstrap()
                    except BaseException:
                        await client.close()
                        raise
                self._client = client
            return self._client

    async def ask(self, request: object) -> parts.Response:
        """Any broker's answer. Raises KafkaError if none gives one."""
        client = await self.connected()
        brokers = list(client.cluster.brokers())
        failure: KafkaError | None = None
        for broker in random.sample(brokers, len(brokers)):
            try:
                return await self.ask_broker(broker.nodeId, request)
            except KafkaError as error:
                failure = error
        await self.close()
        assert failure is not None  # a client that is connected knows a broker
        raise failure

    async def ask_broker(self, node: int | str, request: object) -> parts.Response:
        """This broker's answer. Raises KafkaError if it gives none."""
        client = await self.connected()
        with self._complaints.heard():
            return await client.send(node, request)

    async def coordinator(self, group: str) -> int:
        """The broker that keeps a group's offsets. Raises KafkaError."""
        client = await self.connected()
        with self._complaints.heard():
            return await client.coordinator_lookup(0, group)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with self._complaints.heard():
                await self._closed(client.close())

    async def _closed(self, closing: Awaitable[object] | None) -> None:
        """A connection ends when what it has to send is sent, which a broker that hangs may put off for ever."""
        if closing is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S_MAX):
                    await closing


async def answered(
    question: Callable[[], Awaitable[T]], options: Options, complaints: Complaints, seconds: float | None = None
) -> T:
    """The answer, asked for until there is one, for a few seconds. Raises ClientError."""
    failure = ""
    seconds = seconds or ANSWER_S_MAX
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    return await question()
                except KafkaError as error:
                    if not error.retriable:
                        raise ClientError(options.scrub(str(error))) from None
                    failure = str(error)
                await asyncio.sleep(RETRY_S)
    except TimeoutError:
        cause = failure or complaints.last
        told = f" ({options.scrub(cause)})" if cause else ""
        raise ClientError(
            f"no answer within {seconds:.0f} s{told}; check the address, that the broker runs, and that "
            "security.protocol fits its listener"
        ) from None
