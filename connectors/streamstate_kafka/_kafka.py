"""`Kafka`: one cluster, as a connector of an App."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streamstate.definitions import SubscriptionSpec
from streamstate.engine import Sink
from streamstate.errors import DefinitionError
from streamstate.ingress import Source
from streamstate_kafka._client import ClientError, KafkaClient
from streamstate_kafka._options import Options, OptionValue, checked
from streamstate_kafka._sink import KafkaSink
from streamstate_kafka._source import KafkaSource
from streamstate_kafka._topics import missing_topic


class Kafka:
    """One Kafka cluster. Building it connects to nothing.

    Args:
        bootstrap_servers: `host:port`, or several with commas.
        name: how subscriptions and topics name this cluster.
        options: options of the client library, for instance `security.protocol`, `sasl.mechanism`, `ssl.ca.location`;
            for confluent those of librdkafka. `topic.metadata.refresh.interval.ms` (30,000 here) is also how often new
            partitions and, for patterns, new topics are looked for.
        client: the client library; `confluent` is the one there is.

    Raises:
        DefinitionError: an option that streamstate sets itself, an unknown client, or the client is not installed.

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
        if client != "confluent":
            raise DefinitionError(f"Kafka {name!r}: there is no client {client!r}; expected 'confluent'")
        self._name = name
        self._options = Options.checked(bootstrap_servers, options or {}, f"Kafka {name!r}")
        self._connect(self._options)

    @property
    def name(self) -> str:
        return self._name

    def source(self, subscription: SubscriptionSpec) -> Source:
        """The records of one subscription.

        Raises:
            DefinitionError: one of the subscription's own client options cannot be set.
        """
        own = checked(subscription.options, f"subscription {subscription.name!r} at {subscription.site}")
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

    @staticmethod
    def _connect(options: Options) -> KafkaClient:
        try:
            import confluent_kafka  # noqa: F401 - only to find out whether it is there
        except ImportError:
            raise DefinitionError("Kafka needs confluent-kafka: pip install 'streamstate[kafka]'") from None
        # Here and not above, so that the package can be imported, and say this, without its client.
        from streamstate_kafka._confluent import ConfluentClient

        return ConfluentClient(options)

    def __repr__(self) -> str:
        shown = self._options.redacted()
        servers = shown.pop("bootstrap.servers")
        return f"Kafka({servers!r}, name={self._name!r}, options={shown!r})"
