"""What a program declares, and the frozen specs made of it."""

from streamstate.definitions._handlers import (
    Handler,
    KeyedHandler,
    ObjectHandler,
    ServiceHandler,
    UnkeyedHandler,
    WorkflowHandler,
)
from streamstate.definitions._keys import DefaultedStateKey, ReadableKey, StateKey
from streamstate.definitions._markers import (
    ExclusiveMarker,
    ServiceMarker,
    SharedMarker,
    WorkflowMarker,
    WorkflowSharedMarker,
)
from streamstate.definitions._policies import (
    DeadLetter,
    Deliver,
    Keep,
    Pause,
    Policies,
    Retention,
    RetryPolicy,
    Skip,
    Start,
    Stop,
)
from streamstate.definitions._program import Program, freeze
from streamstate.definitions._record import Record
from streamstate.definitions._services import Service, VirtualObject, Workflow
from streamstate.definitions._specs import HandlerKind, HandlerSpec, ServiceKind, ServiceSpec, SubscriptionSpec
from streamstate.definitions._steps import Step
from streamstate.definitions._subscribe import IN_FLIGHT_MAX, subscribe
from streamstate.definitions._topics import Topic

__all__ = [
    "IN_FLIGHT_MAX",
    "DeadLetter",
    "DefaultedStateKey",
    "Deliver",
    "ExclusiveMarker",
    "Handler",
    "HandlerKind",
    "HandlerSpec",
    "Keep",
    "KeyedHandler",
    "ObjectHandler",
    "Pause",
    "Policies",
    "Program",
    "ReadableKey",
    "Record",
    "Retention",
    "RetryPolicy",
    "Service",
    "ServiceHandler",
    "ServiceKind",
    "ServiceMarker",
    "ServiceSpec",
    "SharedMarker",
    "Skip",
    "Start",
    "StateKey",
    "Step",
    "Stop",
    "SubscriptionSpec",
    "Topic",
    "UnkeyedHandler",
    "VirtualObject",
    "Workflow",
    "WorkflowHandler",
    "WorkflowMarker",
    "WorkflowSharedMarker",
    "freeze",
    "subscribe",
]
