"""What handlers see: the contexts, and the deterministic loop that they run on."""

from streamstate.context._context import Context
from streamstate.context._durable import Awakeable, DurablePromise, Invocation, SignalSender, milliseconds
from streamstate.context._failures import describe, error_of, failure_of, is_cancellation, summarize
from streamstate.context._logging import InvocationLogger
from streamstate.context._loop import HandlerLoop, enter_loop, label_of_handler, leave_loop, running
from streamstate.context._session import Session
from streamstate.context._state import ObjectContext, ObjectSharedContext, WorkflowContext, WorkflowSharedContext
from streamstate.context._tasks import HandlerFuture, HandlerTask, RootTask
from streamstate.context._texts import check_text
from streamstate.context._turns import ENDED_EMPTY, Action, Blocked, Ended, Failed, Setting, Turn, TurnOutcome

__all__ = [
    "ENDED_EMPTY",
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
    "Invocation",
    "InvocationLogger",
    "ObjectContext",
    "ObjectSharedContext",
    "RootTask",
    "Session",
    "Setting",
    "SignalSender",
    "Turn",
    "TurnOutcome",
    "WorkflowContext",
    "WorkflowSharedContext",
    "check_text",
    "describe",
    "enter_loop",
    "error_of",
    "failure_of",
    "is_cancellation",
    "label_of_handler",
    "leave_loop",
    "milliseconds",
    "running",
    "summarize",
]
