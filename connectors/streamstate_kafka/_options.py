"""Client options: which are the user's, which are ours, and which are secrets that nobody may see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from streamstate.errors import DefinitionError

OptionValue: TypeAlias = str | int | float | bool
Check: TypeAlias = "Callable[[Mapping[str, OptionValue], str], dict[str, str]]"

SECRET_MARKS = (
    "password",
    "secret",
    "token",
    "credential",
    "private.key",
    "ssl.key.",
    "ssl.keystore.key",
    "sasl.jaas",
    "sasl.username",
    "sasl.oauthbearer.config",
    "user.info",
)
SCRUBBED_LENGTH_MIN = 4  # a shorter secret would blot out half of every message

# librdkafka logs every attempt to connect, ten a second; what matters of it also reaches us as an error, told once.
QUIET = {"log_level": "2", "log.connection.close": "false"}

REFUSED = {
    "bootstrap.servers": "it is the first argument of Kafka(...)",
    "metadata.broker.list": "the servers are the first argument of Kafka(...)",
    "group.id": "the group is the subscription's name: @subscribe(..., name=...)",
    "group.instance.id": "a source assigns itself all partitions and never joins the group",
    "group.protocol": "a source assigns itself all partitions and never joins the group",
    "partition.assignment.strategy": "a source assigns itself all partitions and never joins the group",
    "session.timeout.ms": "a source assigns itself all partitions and never joins the group",
    "heartbeat.interval.ms": "a source assigns itself all partitions and never joins the group",
    "auto.offset.reset": "say where to begin by @subscribe(..., start=...); a lost position must never pass unseen",
    "enable.auto.commit": "positions are kept with the state, and reported when they are durable",
    "enable.auto.offset.store": "positions are kept with the state, and reported when they are durable",
    "enable.partition.eof": "a source has no end",
    "enable.idempotence": "publishing is always idempotent",
    "acks": "publishing always waits for all in-sync replicas",
    "request.required.acks": "publishing always waits for all in-sync replicas",
    "message.timeout.ms": "a published message waits for Kafka as long as it takes",
    "delivery.timeout.ms": "a published message waits for Kafka as long as it takes",
    "transactional.id": "the sink is not transactional",
    "delivery.report.only.error": "the sink needs to know what was delivered",
}

CONSUMER_ONLY = ("fetch.", "queued.", "max.partition.fetch.bytes", "check.crcs", "isolation.level", "receive.message.")
PRODUCER_ONLY = (
    "linger.ms",
    "batch.",
    "compression.",
    "queue.buffering.",
    "message.max.bytes",
    "message.send.max.retries",
    "retries",
    "partitioner",
    "sticky.partitioning.",
    "request.timeout.ms",
    "topic.metadata.propagation.",
)


@dataclass(frozen=True, slots=True, repr=False)
class Options:
    """The options of one cluster, as text; its repr shows no secret."""

    bootstrap_servers: str
    values: Mapping[str, str]

    @classmethod
    def checked(
        cls, bootstrap_servers: str, options: Mapping[str, OptionValue], owner: str, check: Check | None = None
    ) -> Options:
        """Raises DefinitionError for an option that is ours, and whatever else the client's own check refuses."""
        if not bootstrap_servers.strip():
            raise DefinitionError(f"{owner} has no bootstrap servers; expected 'host:port' or 'host:port,host:port'")
        return cls(bootstrap_servers, (check or checked)(options, owner))

    def merged(self, options: Mapping[str, str]) -> Options:
        """These options, overridden by others."""
        return Options(self.bootstrap_servers, {**self.values, **options})

    def common(self) -> dict[str, str]:
        """What every kind of client takes."""
        return self._without(CONSUMER_ONLY + PRODUCER_ONLY)

    def for_consumer(self) -> dict[str, str]:
        return self._without(PRODUCER_ONLY)

    def for_producer(self) -> dict[str, str]:
        return self._without(CONSUMER_ONLY)

    def redacted(self) -> dict[str, str]:
        """What may be shown: ${NAME} stands for the value of a secret."""
        shown = {name: placeholder(name) if is_secret(name) else value for name, value in self.values.items()}
        return {"bootstrap.servers": self.bootstrap_servers, **shown}

    def scrub(self, text: str) -> str:
        """The text of a client library, without our secrets."""
        for name, value in self.values.items():
            if is_secret(name) and len(value) >= SCRUBBED_LENGTH_MIN:
                text = text.replace(value, placeholder(name))
        return text

    def __repr__(self) -> str:
        return f"Options({self.redacted()!r})"

    def _without(self, prefixes: tuple[str, ...]) -> dict[str, str]:
        kept = {name: value for name, value in self.values.items() if not name.startswith(prefixes)}
        return {**QUIET, "bootstrap.servers": self.bootstrap_servers, **kept}


def checked(options: Mapping[str, OptionValue], owner: str) -> dict[str, str]:
    """The options as text. Raises DefinitionError for one that is ours, or whose value is no plain one."""
    return {name: _text(name, value, owner) for name, value in options.items()}


def is_secret(name: str) -> bool:
    return any(mark in name.lower() for mark in SECRET_MARKS)


def placeholder(name: str) -> str:
    return "${" + name.upper().replace(".", "_").replace("-", "_") + "}"


def _text(name: str, value: object, owner: str) -> str:
    reason = REFUSED.get(name)
    if reason is not None:
        raise DefinitionError(f"{owner}: the option {name!r} cannot be set: {reason}")
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        kind = type(value).__name__
        raise DefinitionError(f"{owner}: the option {name!r} is of type {kind}; expected str, int, float or bool")
    return str(value)
