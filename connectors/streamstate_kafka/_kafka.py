"""`Kafka`: one cluster, as a connector of an App."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from streamstate.definitions import SubscriptionSpec
from streamstate.engine import Sink
from streamstate.errors import DefinitionError
from streamstate.ingress import Source
from streamstate_kafka._aiokafka_options import translated
from streamstate_kafka._client import ClientError, KafkaClient
from streamstate_kafka._options import Options, OptionValue, checked
from streamstate_kafka._sink import KafkaSink
from streamstate_kafka._source import KafkaSource
from streamstate_kafka._topics import missing_topic

# The clients are imported when they are chosen, so that the package can be imported, and say this, without them.


def _confluent(options: Options) -> KafkaClient:
    try:
        import confluent_kafka  # noqa: F401 - only to find out whether it is there
    except ImportError:
        raise DefinitionError("Kafka needs confluent-kafka: pip install 'streamstate[kafka]'") from None
    from streamstate_kafka._confluent import ConfluentClient

    return ConfluentClient(options)


def _aiokafka(options: Options) -> KafkaClient:
    try:
        import aiokafka  # type: ignore[import-untyped] # noqa: F401 - ships no types; only to find out whether it is there
    except ImportError:
        raise DefinitionError(
            "Kafka(..., client='aiokafka') needs aiokafka: pip install 'streamstate[aiokafka]'"
        ) from None
    from streamstate_kafka._aiokafka import AiokafkaClient

    return AiokafkaClient(options)


class _Client(NamedTuple):
    """How a client's options are checked, and how it is made."""

    check: Callable[[Mapping[str, OptionValue], str], dict[str, str]]
    connect: Callable[[Options], KafkaClient]


CLIENTS = {"confluent": _Client(checked, _confluent), "aiokafka": _Client(translated, _aiokafka)}


class Kafka:
    """One Kafka cluster. Building it connects to nothing.

    Args:
        bootstrap_servers: `host:port`, or several with commas.
        name: how subscriptions and topics name this cluster.
        options: options of the client library under the names that librdkafka gives them, for instance
            `security.protocol`, `sasl.mechanism`, `ssl.ca.location`; aiokafka also takes its own names.
            `topic.metadata.refresh.interval.ms` (30,000 here) is also how often new partitions and, for patterns, new
            topics are looked for.
        client: the client library: `confluent`, or `aiokafka`, which needs no C library, runs on the application's
            event loop, and shows no topic ids.

    Raises:
        DefinitionError: an option that streamstate sets itself or the client cannot follow, an unknown client, or the
            client is not installed.

    Example:
        >>> Kafka("broker:9093", options={"sasl.mechanism": "PLAIN", "sasl.password": "s3cret"})
        Kafka('broker:9093', name='kafka', options={'sasl.mechanism': 'PLAIN', 'sasl.password': '${SASL_PASSWORD}'})
    """

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        name: str = "kafka",
        options: Mapping[str, OptionValue] | None = None,
        client: str = "confluent",
    ) -> None:
        if client not in CLIENTS:
            expected = " or ".join(repr(each) for each in CLIENTS)
            raise DefinitionError(f"Kafka {name!r}: there is no client {client!r}; expected {expected}")
        self._name = name
        self._client = client
        self._options = Options.checked(bootstrap_servers, options or {}, f"Kafka {name!r}", CLIENTS[client].check)
        self._connect(self._options)

    @property
    def name(self) -> str:
        return self._name

    def source(self, subscription: SubscriptionSpec) -> Source:
        """The records of one subscription.

        Raises:
            DefinitionError: one of the subscription's own client options cannot be set.
        """
        owner = f"subscription {subscription.name!r} at {subscription.site}"
        own = CLIENTS[self._client].check(subscription.options, owner)
        options = self._options.merged(own)
        return KafkaSource(self._cluster(), subscription, self._connect(options), options)

    def sink(self) -> Sink:
        return KafkaSink(self._cluster(), self._connect(self._options))

    def redacted_options(self) -> Mapping[str, str]:
        return self._options.redacted()

    async def check(self, topics: Sequence[str]) -> list[str]:
        client = self._connect(self._options)
        try:
            there = await client.topics()
        except ClientError as error:
            return [f"{self._cluster()} cannot be used: {error}"]
        finally:
            await client.close()
        servers = self._options.bootstrap_servers
        return [missing_topic(topic, there, self._cluster(), servers) for topic in topics if topic not in there]

    def _cluster(self) -> str:
        return f"Kafka {self._name!r} at {self._options.bootstrap_servers}"

    def _connect(self, options: Options) -> KafkaClient:
        return CLIENTS[self._client].connect(options)

    def __repr__(self) -> str:
        shown = self._options.redacted()
        servers = shown.pop("bootstrap.servers")
        client = "" if self._client == "confluent" else f", client={self._client!r}"
        return f"Kafka({servers!r}, name={self._name!r}, options={shown!r}{client})"
