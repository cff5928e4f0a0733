"""The journal of an invocation: entries as values, and a state machine over them. No I/O, no clock, no asyncio."""

from streamstate.journal._entries import (
    Arrival,
    CancelArrived,
    Command,
    Completion,
    Entry,
    Failure,
    Kind,
    Option,
    Outcome,
    SignalArrived,
    Success,
)
from streamstate.journal._identity import (
    awakeable_id,
    child_identity,
    fresh_identity,
    keyed_identity,
    parse_awakeable_id,
    record_identity,
    seed_of,
    workflow_identity,
)
from streamstate.journal._machine import TRANSITIONS, Machine, Phase, Step, pending_in

__all__ = [
    "TRANSITIONS",
    "Arrival",
    "CancelArrived",
    "Command",
    "Completion",
    "Entry",
    "Failure",
    "Kind",
    "Machine",
    "Option",
    "Outcome",
    "Phase",
    "SignalArrived",
    "Step",
    "Success",
    "awakeable_id",
    "child_identity",
    "fresh_identity",
    "keyed_identity",
    "parse_awakeable_id",
    "pending_in",
    "record_identity",
    "seed_of",
    "workflow_identity",
]
