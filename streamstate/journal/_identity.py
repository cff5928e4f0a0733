"""Deterministic identities: the same input has the same invocation id in every process.

An id is `inv_` and 26 characters of base32: a blake2b digest of 16 bytes over what identifies the input.
"""

from __future__ import annotations

import functools
import hashlib

from streamstate.errors import UsageError

_AWAKEABLE = "sign_"
_INVOCATION = "inv_"
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = [first + second for first in _BASE32 for second in _BASE32]  # half the time of base64.b32encode
_SHIFTS = tuple(range(120, -1, -10))


def _digest(*parts: str) -> str:
    return _identity(_joined(*parts))


def _joined(*parts: str) -> str:
    # Lengths in front of the parts, so that no two lists of parts share their bytes.
    return "".join([f"{len(part)}:{part}" for part in parts])


def _identity(text: str) -> str:
    raw = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    bits = int.from_bytes(raw, "big") << 2  # 26 characters of five bits are two more than there are
    return _INVOCATION + "".join([_PAIRS[bits >> shift & 0x3FF] for shift in _SHIFTS])


def record_identity(app: str, subscription: str, topic: str, topic_id: str, partition: int, offset: int) -> str:
    """The invocation of a record; topic_id tells a re-created topic from the old one."""
    return _identity(_partition(app, subscription, topic, topic_id, partition) + _joined(str(offset)))


@functools.lru_cache(maxsize=1024)  # a program reads fewer partitions; one more costs a microsecond a record
def _partition(app: str, subscription: str, topic: str, topic_id: str, partition: int) -> str:
    return _joined("record", app, subscription, topic, topic_id, str(partition))


def child_identity(parent: str, index: int) -> str:
    """The invocation made by this command of this invocation."""
    return _digest("child", parent, str(index))


def keyed_identity(service: str, handler: str, key: str, idempotency_key: str) -> str:
    """The invocation of this target with this idempotency key."""
    return _digest("idempotent", service, handler, key, idempotency_key)


def workflow_identity(service: str, key: str) -> str:
    """The one run of a workflow key."""
    return _digest("workflow", service, key)


def fresh_identity(nonce: str) -> str:
    """An invocation without an identity of its own; `nonce` must never come twice."""
    return _digest("fresh", nonce)


def seed_of(invocation: str) -> int:
    """The seed of the invocation's random numbers."""
    return int.from_bytes(hashlib.blake2b(invocation.encode(), digest_size=8, person=b"seed").digest(), "big")


def awakeable_id(invocation: str, index: int) -> str:
    return f"{_AWAKEABLE}{invocation.removeprefix(_INVOCATION)}_{index}"


def parse_awakeable_id(text: str) -> tuple[str, int]:
    """The invocation and command index of an awakeable.

    Raises:
        UsageError: not the id of an awakeable.
    """
    body, _, index = text.removeprefix(_AWAKEABLE).rpartition("_")
    if not text.startswith(_AWAKEABLE) or not body or not index.isascii() or not index.isdigit():
        raise UsageError(f"{text!r} is not the id of an awakeable; expected what ctx.awakeable(...).id gave, sign_…_N")
    return _INVOCATION + body, int(index)
