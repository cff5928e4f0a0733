"""Rules for names and options that hold wherever they are given."""

from __future__ import annotations

import re
from datetime import timedelta

from streamstate.definitions._policies import Retention, RetryPolicy
from streamstate.errors import DefinitionError

# Restate's rules for names: a program must run on both engines.
_SERVICE_NAME = re.compile(r"([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9._-]*")
_HANDLER_NAME = re.compile(r"([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9_]*")
# Kafka's rule for topics and the practice for consumer groups.
_PLAIN_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")


def check_service_name(name: object, site: str) -> None:
    """Raises DefinitionError if Restate would not take the name of a service."""
    if not isinstance(name, str) or not _SERVICE_NAME.fullmatch(name):
        raise DefinitionError(
            f"{name!r} is no name for a service: letters, digits, '.', '_' and '-', beginning with a letter — at {site}"
        )
    if name.lower().startswith("restate") or name.lower() == "openapi":
        raise DefinitionError(f"{name!r} is reserved by Restate; choose another name for the service — at {site}")


def check_handler_name(service: str, name: object, site: str) -> None:
    """Raises DefinitionError if Restate would not take the name of a handler."""
    if not isinstance(name, str) or not _HANDLER_NAME.fullmatch(name):
        raise DefinitionError(
            f"{name!r} is no name for a handler of {service}: letters, digits and '_', beginning with a letter"
            f" — at {site}"
        )


def check_plain_name(what: str, name: object, site: str) -> None:
    """Raises DefinitionError if the name cannot be a topic's or a consumer group's."""
    if not isinstance(name, str) or not _PLAIN_NAME.fullmatch(name):
        raise DefinitionError(f"{name!r} is no name for {what}: letters, digits, '.', '_' and '-' — at {site}")


def check_duration(what: str, value: object, site: str, *, zero_allowed: bool = False) -> None:
    """Raises DefinitionError if a duration is no timedelta, or is negative."""
    if not isinstance(value, timedelta):
        raise DefinitionError(f"{what} is {value!r}; durations are timedelta, say timedelta(seconds=…) — at {site}")
    if value < timedelta(0) or (not value and not zero_allowed):
        raise DefinitionError(f"{what} is {value}; it must be longer than nothing — at {site}")


def check_retry(policy: object, site: str) -> None:
    """Raises DefinitionError if a retry policy cannot be followed; None is no policy."""
    if policy is None:
        return
    if not isinstance(policy, RetryPolicy):
        raise DefinitionError(f"retry={policy!r}: give a RetryPolicy(…) — at {site}")
    check_duration("RetryPolicy.initial", policy.initial, site, zero_allowed=True)
    check_duration("RetryPolicy.interval_max", policy.interval_max, site, zero_allowed=True)
    if policy.duration_max is not None:
        check_duration("RetryPolicy.duration_max", policy.duration_max, site)
    attempts: object = policy.attempts_max
    if attempts is not None and (not isinstance(attempts, int) or attempts < 1):
        raise DefinitionError(
            f"RetryPolicy.attempts_max is {policy.attempts_max}; the first attempt counts — at {site}"
        )
    if policy.factor < 1:
        raise DefinitionError(f"RetryPolicy.factor is {policy.factor}; below 1 pauses would shrink — at {site}")


def check_retention(retention: object, site: str) -> None:
    """Raises DefinitionError if a retention cannot be kept."""
    if not isinstance(retention, Retention):
        raise DefinitionError(f"retention={retention!r}: give a Retention(…) — at {site}")
    check_duration("Retention.idempotency", retention.idempotency, site, zero_allowed=True)
    check_duration("Retention.workflow", retention.workflow, site, zero_allowed=True)
