"""librdkafka's own error codes, which confluent-kafka only has as names with an underscore, and their texts."""

from __future__ import annotations

import enum

from confluent_kafka import KafkaError


class LocalError(enum.IntEnum):
    """An error that comes from the client library and not from a broker."""

    TRANSPORT = -195
    RESOLVE = -193
    UNKNOWN_PARTITION = -190
    UNKNOWN_TOPIC = -188
    ALL_BROKERS_DOWN = -187
    TIMED_OUT = -185
    SSL = -181
    AUTHENTICATION = -169
    PURGE_QUEUE = -152
    PURGE_INFLIGHT = -151
    AUTO_OFFSET_RESET = -140
    LOG_TRUNCATION = -139


def told(error: KafkaError) -> str:
    """The error's text, in words of its own where librdkafka's mislead."""
    return "no broker answers" if error.code() == LocalError.ALL_BROKERS_DOWN else error.str()
