"""Which topics a subscription means, and what to say of one that is not there."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection

NEAR_NAMES_MAX = 3


def matching(wanted: tuple[str, ...] | re.Pattern[str], there: Collection[str]) -> list[str]:
    """The topics that are there and meant; a pattern must match the whole name and never means internal topics."""
    if isinstance(wanted, re.Pattern):
        return sorted(topic for topic in there if wanted.fullmatch(topic) and not topic.startswith("__"))
    return [topic for topic in wanted if topic in there]


def missing_topic(topic: str, there: Collection[str], cluster: str, servers: str) -> str:
    """One sentence and the remedy."""
    near = difflib.get_close_matches(topic, there, NEAR_NAMES_MAX)
    names = ", ".join(repr(name) for name in near)
    hint = f"did you mean {names}? Or create it" if near else "create it"
    create = f"kafka-topics.sh --bootstrap-server {servers} --create --topic {topic} --partitions 4"
    return f"topic {topic!r} is not on {cluster}: {hint}: {create}"
