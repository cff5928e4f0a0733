"""What a subscription says and Restate's own Kafka ingress cannot do, a sentence each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields

from streamstate.definitions import IN_FLIGHT_MAX, Deliver, Keep, Pause, Policies, Skip, SubscriptionSpec

# For each policy the choice that Restate makes, or None where it makes none of ours; and what happens there.
RESTATE_DOES: Mapping[str, tuple[type | None, str]] = {
    "on_null_key": (None, "a record without a key goes to the object whose key is empty"),
    "on_tombstone": (Deliver, "a record without a value reaches the handler as empty input"),
    "on_undecodable": (Skip, "the invocation of an undecodable record fails and the next record is read"),
    "on_exhausted": (Pause, "the invocation is paused and its key waits"),
    "on_failure": (Keep, "the failure is kept with the invocation"),
    "on_duplicate": (Skip, "a record with the key of a workflow that has run is dropped"),
}


def reason_to_leave_out(spec: SubscriptionSpec) -> str | None:
    """Why Restate would deliver the wrong records, or to the wrong object; None if it would not."""
    if isinstance(spec.topics, re.Pattern):
        return f"it reads the topics that match /{spec.topics.pattern}/, and Restate reads one topic by its name"
    if spec.key is not None:
        return "it has a key function, and Restate takes the record's key as the object's key"
    return None


def limits(subscriptions: Sequence[SubscriptionSpec]) -> Iterator[str]:
    """Sentences about single subscriptions in their order, then one for each policy and choice that Restate lacks."""
    for spec in subscriptions:
        reason = reason_to_leave_out(spec)
        if reason is not None:
            yield f"subscription {spec.name} is left out: {reason}"
        else:
            yield from _limits_of(spec)
    kept = [spec for spec in subscriptions if reason_to_leave_out(spec) is None]
    for policy in fields(Policies):
        yield from _limits_of_policy(policy.name, kept)


def _limits_of(spec: SubscriptionSpec) -> Iterator[str]:
    subscription = f"subscription {spec.name}"
    if spec.start.moment is not None:
        yield f"{subscription} starts at {spec.start.moment.isoformat()}: Restate begins at the earliest record instead"
    if spec.value is not None:
        yield f"{subscription} decodes values by a serde of its own: on Restate the handler's input serde does it"
    if spec.retry is not None:
        yield f"{subscription} has a retry policy: Restate retries by that of {spec.service}.{spec.handler}"
    if spec.max_in_flight != IN_FLIGHT_MAX:
        yield f"{subscription} has max_in_flight={spec.max_in_flight}: Restate bounds the ingress as a whole, by memory"


def _limits_of_policy(policy: str, subscriptions: Sequence[SubscriptionSpec]) -> Iterator[str]:
    choice_there, what_happens = RESTATE_DOES[policy]
    names_by_choice: dict[str, list[str]] = {}
    for spec in subscriptions:
        choice = getattr(spec.policies, policy)
        if choice_there is None or not isinstance(choice, choice_there):
            names_by_choice.setdefault(repr(choice), []).append(spec.name)
    for choice, names in names_by_choice.items():
        yield f"{policy}={choice} of {', '.join(names)} has no equal on Restate: there {what_happens}"
