"""What every client adds to a message, and says of one that Kafka did not take."""

from __future__ import annotations

from streamstate.storage import OutboxMessage

MESSAGE_ID_HEADER = "streamstate-message-id"
KEY_SHOWN_MAX = 60

TOO_LARGE = "publish less, or raise message.max.bytes in the options of Kafka(...) and max.message.bytes of the topic"
NO_TOPIC = "create the topic"
BAD_TOPIC_NAME = "correct the topic's name"
TOPIC_NOT_GRANTED = "grant WRITE on the topic to this user"
CLUSTER_NOT_GRANTED = "grant IDEMPOTENT_WRITE on the cluster to this user"
CLOSED_UNSENT = "the sink was closed before it was sent"
CLOSED_UNACKNOWLEDGED = "the sink was closed before it was acknowledged"
SENT_AGAIN = "it is sent again from here"


def refused(message: OutboxMessage, servers: str, reason: str, remedy: str) -> str:
    """What, which, why, and the next step."""
    key = "without a key" if message.key is None else f"with key {_shown(message.key)}"
    return (
        f"topic {message.topic!r} at {servers} did not take the message {key} ({len(message.value or b'')} bytes, "
        f"{MESSAGE_ID_HEADER} {message.message_id}): {reason}; {remedy}"
    )


def _shown(key: bytes) -> str:
    text = repr(key)
    return text if len(text) <= KEY_SHOWN_MAX else text[:KEY_SHOWN_MAX] + "…"
