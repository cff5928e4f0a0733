"""The embedded engine."""

from streamstate.engine._client import LocalClient, LocalInvocation
from streamstate.engine._clock import Clock, SystemClock
from streamstate.engine._engine import Engine
from streamstate.engine._intake import Intake
from streamstate.engine._options import EngineOptions
from streamstate.engine._ports import Sink
from streamstate.storage import OutboxMessage

__all__ = [
    "Clock",
    "Engine",
    "EngineOptions",
    "Intake",
    "LocalClient",
    "LocalInvocation",
    "OutboxMessage",
    "Sink",
    "SystemClock",
]
