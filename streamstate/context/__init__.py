"""What handlers see: the contexts, and the deterministic loop that they run on."""

from streamstate.context._context import (
    Context,
    InvocationLogger,
    ObjectContext,
    ObjectSharedContext,
    WorkflowContext,
    WorkflowSharedContext,
)
from streamstate.context._durable import Awakeable, DurablePromise, Invocation, SignalSender, milliseconds
from streamstate.context._failures import describe, error_of, failure_of, is_cancellation
from streamstate.context._loop import HandlerLoop, running
from streamstate.context._session import Action, Blocked, Ended, Failed, Input, Session, Turn
from streamstate.context._tasks import HandlerFuture, HandlerTask, RootTask

__all__ = [
    "Action",
    "Awakeable",
    "Blocked",
    "Context",
    "DurablePromise",
    "Ended",
    "Failed",
    "HandlerFuture",
    "HandlerLoop",
    "HandlerTask",
    "Input",
    "Invocation",
    "InvocationLogger",
    "ObjectContext",
    "ObjectSharedContext",
    "RootTask",
    "Session",
    "SignalSender",
    "Turn",
    "WorkflowContext",
    "WorkflowSharedContext",
    "describe",
    "error_of",
    "failure_of",
    "is_cancellation",
    "milliseconds",
    "running",
]
