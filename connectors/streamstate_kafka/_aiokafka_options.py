"""The options of aiokafka: told by librdkafka's names, so that one configuration serves both clients, or by its own.

Nothing is ignored: an option that has no meaning here is refused by name, since whoever set it counts on it.
"""

from __future__ import annotations

import difflib
import os
import ssl
from collections.abc import Mapping

from streamstate.errors import DefinitionError
from streamstate_kafka._options import Options, OptionValue, checked

# aiokafka's own names, and other names that librdkafka has for the same.
ALIASES = {
    "sasl_plain_username": "sasl.username",
    "sasl_plain_password": "sasl.password",
    "sasl.mechanisms": "sasl.mechanism",
    "fetch_max_wait_ms": "fetch.wait.max.ms",
    "fetch.message.max.bytes": "max.partition.fetch.bytes",
    "metadata_max_age_ms": "topic.metadata.refresh.interval.ms",
    "metadata.max.age.ms": "topic.metadata.refresh.interval.ms",
    "request_timeout_ms": "socket.timeout.ms",
    "max_batch_size": "batch.size",
    "max_request_size": "message.max.bytes",
    "compression.codec": "compression.type",
}

# Our option's name, aiokafka's argument, and whether it is a number.
CONNECTION = {
    "client.id": ("client_id", False),
    "socket.timeout.ms": ("request_timeout_ms", True),
    "topic.metadata.refresh.interval.ms": ("metadata_max_age_ms", True),
    "connections.max.idle.ms": ("connections_max_idle_ms", True),
    "retry.backoff.ms": ("retry_backoff_ms", True),
    "sasl.username": ("sasl_plain_username", False),
    "sasl.password": ("sasl_plain_password", False),
    "sasl.kerberos.service.name": ("sasl_kerberos_service_name", False),
}
FETCHING = {
    "fetch.min.bytes": ("fetch_min_bytes", True),
    "fetch.max.bytes": ("fetch_max_bytes", True),
    "fetch.wait.max.ms": ("fetch_max_wait_ms", True),
    "max.partition.fetch.bytes": ("max_partition_fetch_bytes", True),
    "client.rack": ("client_rack", False),
}
PRODUCING = frozenset(
    {"batch.size", "message.max.bytes", "request.timeout.ms", "topic.metadata.propagation.max.ms"}
)  # all of them numbers
CHOICES = {
    "security.protocol": ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
    "sasl.mechanism": ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI"),
    "isolation.level": ("read_committed", "read_uncommitted"),
    "compression.type": ("none", "gzip", "snappy", "lz4", "zstd"),
    "partitioner": ("murmur2_random",),
    "ssl.endpoint.identification.algorithm": ("https", "none"),
    "check.crcs": ("true", "false"),
    "enable.ssl.certificate.verification": ("true", "false"),
}
TLS = frozenset(
    {"ssl.ca.location", "ssl.ca.pem", "ssl.certificate.location", "ssl.key.location", "ssl.key.password"}
    | {"ssl.cipher.suites"}
)
NUMBERS = PRODUCING | {name for name, (_, is_number) in (CONNECTION | FETCHING).items() if is_number}
KNOWN = frozenset({*CONNECTION, *FETCHING, *PRODUCING, *CHOICES, *TLS})

CONFLUENT = "client='confluent' can do it"
MISSING = (
    ("sasl.oauthbearer.", f"aiokafka fetches no tokens by itself; {CONFLUENT}"),
    ("queued.", "it sizes librdkafka's queue; aiokafka reads ahead one fetch: see max.partition.fetch.bytes"),
    ("fetch.queue.", "it paces librdkafka's queue; aiokafka has none"),
    ("linger.ms", "what there is to send is sent at once"),
    ("queue.buffering.", "what there is to send is sent at once"),
    ("batch.num.messages", "batches are bounded by batch.size"),
    ("message.send.max.retries", "a published message waits for Kafka as long as it takes"),
    ("retries", "a published message waits for Kafka as long as it takes"),
    ("max.in.flight", "one request is on its way to a partition at a time"),
    ("ssl.key.pem", f"aiokafka reads keys from files: ssl.key.location; {CONFLUENT}"),
    ("ssl.certificate.pem", f"aiokafka reads certificates from files: ssl.certificate.location; {CONFLUENT}"),
    ("ssl.keystore.", f"aiokafka reads PEM files: ssl.certificate.location and ssl.key.location; {CONFLUENT}"),
    ("ssl.crl.", f"aiokafka checks no revocation lists; {CONFLUENT}"),
    ("sasl.kerberos.", f"aiokafka takes Kerberos tickets as they are; {CONFLUENT}"),
)

# Like librdkafka: what is read is committed, and metadata is looked at every half minute.
DEFAULTS = {"isolation.level": "read_committed", "topic.metadata.refresh.interval.ms": "30000"}


def translated(options: Mapping[str, OptionValue], owner: str) -> dict[str, str]:
    """The options as text, under librdkafka's names and in aiokafka's spelling.

    Raises DefinitionError for one that is ours, that aiokafka cannot follow, or that is given under two names.
    """
    found: dict[str, OptionValue] = {}
    given: dict[str, str] = {}
    for name, value in options.items():
        dotted = name if "." in name else name.replace("_", ".")
        known = ALIASES.get(name, ALIASES.get(dotted, dotted))
        if known in found:
            raise DefinitionError(f"{owner}: {given[known]!r} and {name!r} are the same option; give one of them")
        found[known], given[known] = value, name
    return {name: _value(name, value, owner) for name, value in checked(found, owner).items()}


def connection_settings(options: Options, tls: ssl.SSLContext | None) -> dict[str, object]:
    """What every object of aiokafka takes."""
    values = {**DEFAULTS, **options.values}
    settings: dict[str, object] = {"bootstrap_servers": options.bootstrap_servers, "ssl_context": tls}
    settings["security_protocol"] = values.get("security.protocol", "PLAINTEXT")
    if "sasl.mechanism" in values:
        settings["sasl_mechanism"] = values["sasl.mechanism"]
    return settings | _arguments(values, CONNECTION)


def fetching_settings(options: Options) -> dict[str, object]:
    """What a consumer takes besides."""
    values = {**DEFAULTS, **options.values}
    settings: dict[str, object] = {"isolation_level": values["isolation.level"], "enable_auto_commit": False}
    settings |= {"auto_offset_reset": "none", "check_crcs": values.get("check.crcs", "true") == "true"}
    return settings | _arguments(values, FETCHING)


def whole_number(options: Options, name: str, default: int) -> int:
    return int(options.values.get(name, default))


def uses_tls(options: Options) -> bool:
    return options.values.get("security.protocol", "").endswith("SSL")


def tls_context(options: Options) -> ssl.SSLContext:
    """Reads files. Raises OSError (which ssl.SSLError is) for one that cannot be used."""
    values = options.values
    authority = values.get("ssl.ca.location")
    is_folder = authority is not None and os.path.isdir(authority)
    context = ssl.create_default_context(
        cafile=None if is_folder else authority,
        capath=authority if is_folder else None,
        cadata=values.get("ssl.ca.pem"),
    )
    if "ssl.cipher.suites" in values:
        context.set_ciphers(values["ssl.cipher.suites"])
    certificate = values.get("ssl.certificate.location")
    if certificate is not None:
        # Without a password in the options nobody must be asked for one at a terminal that a server does not have.
        context.load_cert_chain(certificate, values.get("ssl.key.location"), values.get("ssl.key.password", ""))
    verifies = values.get("enable.ssl.certificate.verification", "true") == "true"
    context.check_hostname = verifies and values.get("ssl.endpoint.identification.algorithm", "https") == "https"
    context.verify_mode = ssl.CERT_REQUIRED if verifies else ssl.CERT_NONE
    return context


def _arguments(values: Mapping[str, str], table: Mapping[str, tuple[str, bool]]) -> dict[str, object]:
    return {
        argument: int(values[name]) if is_number else values[name]
        for name, (argument, is_number) in table.items()
        if name in values
    }


def _value(name: str, value: str, owner: str) -> str:
    if name not in KNOWN:
        raise DefinitionError(f"{owner}: the option {name!r} cannot be set with client='aiokafka': {_why_not(name)}")
    if name in NUMBERS and not value.isdecimal():
        raise DefinitionError(f"{owner}: the option {name!r} is {value!r}; expected a whole number")
    choices = CHOICES.get(name)
    if choices is None:
        return value
    found = [choice for choice in choices if choice.lower() == value.lower()]
    if not found:
        expected = ", ".join(repr(choice) for choice in choices)
        hint = f"; {CONFLUENT}" if name in ("sasl.mechanism", "partitioner") else ""
        raise DefinitionError(f"{owner}: the option {name!r} is {value!r}; aiokafka takes {expected}{hint}")
    return found[0]


def _why_not(name: str) -> str:
    for prefix, reason in MISSING:
        if name.startswith(prefix):
            return reason
    near = difflib.get_close_matches(name, KNOWN, 3)
    hint = f"; did you mean {', '.join(repr(each) for each in near)}?" if near else ""
    return f"it is not known{hint}"
