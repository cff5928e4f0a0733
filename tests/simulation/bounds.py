"""Makes the engine's bounds small for a run, so that what takes millions of events elsewhere takes a dozen here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from streamstate.context import _failures, _ledger
from streamstate.engine import _clock, _core, _engine, _executor, _outbox, _timers, _upkeep
from streamstate.ingress import _feed
from tests.simulation.outside import Wall
from tests.simulation.plans import Limits


def _no_stack(_error: BaseException) -> str:
    return ""


@contextmanager
def bounded(limits: Limits, wall: Wall) -> Iterator[None]:
    """The engine's module constants as the plan says, and its clock on the simulated wall clock."""
    wanted: list[tuple[Any, str, object]] = [
        (_core, "QUEUE_IN_MEMORY_MAX", limits.queue),
        (_upkeep, "PAGE", limits.page),
        (_timers, "_PAGE", limits.page),
        (_outbox, "CHUNK_MAX", limits.outbox),
        (_outbox, "IN_MEMORY_MAX", limits.outbox),
        (_feed, "CHUNK", limits.chunk),
        (_engine, "WORK_PER_PUMP", limits.work),
        (_engine, "RECORDS_AHEAD_MAX", limits.in_flight),
        (_ledger, "COMMANDS_PER_TURN_CUT", limits.cut),
        (_clock, "time", wall),
        # Stacks for people: a fifth of the time of a run, and with addresses in them.
        (_failures, "describe", _no_stack),
        (_executor, "describe", _no_stack),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in wanted]
    for module, name, value in wanted:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
