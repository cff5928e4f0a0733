"""What a program declares, frozen: the only form in which the layers above know handlers and subscriptions."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from streamstate.definitions._policies import Policies, Retention, RetryPolicy, Start
from streamstate.definitions._record import Record
from streamstate.serde import Serde


class ServiceKind(enum.Enum):
    SERVICE = "service"
    OBJECT = "object"
    WORKFLOW = "workflow"


class HandlerKind(enum.Enum):
    """How a handler runs: freely, alone on its key, beside others on its key, or once per key."""

    SERVICE = "service"
    EXCLUSIVE = "exclusive"
    SHARED = "shared"
    WORKFLOW = "workflow"


@dataclass(frozen=True, slots=True)
class SubscriptionSpec:
    """One `@subscribe`, complete: its name is its identity and its consumer group.

    Attributes:
        name: unique in the App; the App fills in the default `<app>.<Service>.<handler>`.
        topics: names, or one compiled pattern.
        cluster: the connector's name; None is the only one.
        service, handler: the target.
        key: the object key of a record; None is the record's key as UTF-8. Unused for services.
        value: overrides the handler's input serde.
        limit_in_flight: at most this many undecided records.
        options: client options of this subscription alone.
        site: file and line of the declaration.
    """

    name: str
    topics: tuple[str, ...] | re.Pattern[str]
    cluster: str | None
    service: str
    handler: str
    key: Callable[[Record], str] | None
    value: Serde[Any] | None
    start: Start
    policies: Policies
    retry: RetryPolicy | None
    max_in_flight: int
    site: str
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HandlerSpec:
    """One handler, complete.

    Attributes:
        function: called as function(ctx) or function(ctx, payload).
        takes_input: whether there is a payload parameter.
        site: file and line of the declaration.
    """

    service: str
    name: str
    service_kind: ServiceKind
    kind: HandlerKind
    function: Callable[..., Coroutine[Any, Any, Any]]
    takes_input: bool
    input: Serde[Any]
    output: Serde[Any]
    retry: RetryPolicy
    retention: Retention
    site: str
    subscriptions: tuple[SubscriptionSpec, ...] = ()

    @property
    def is_keyed(self) -> bool:
        return self.service_kind is not ServiceKind.SERVICE

    @property
    def target(self) -> str:
        """The handler's full name, as messages and logs show it."""
        return f"{self.service}.{self.name}"


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """One service, virtual object or workflow, with its handlers by name."""

    name: str
    kind: ServiceKind
    handlers: Mapping[str, HandlerSpec]
    site: str
