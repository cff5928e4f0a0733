"""How long: what has ended is kept, and what has failed waits for its next attempt."""

from __future__ import annotations

from streamstate.definitions import HandlerKind
from streamstate.engine._keys import Live
from streamstate.errors import RetryableError
from streamstate.journal import Failure, Outcome


def kept_ms(inv: Live, outcome: Outcome) -> int | None:
    """How long the ended invocation is kept; failures always are."""
    retention = inv.spec.retention
    if inv.spec.kind is HandlerKind.WORKFLOW:
        return round(retention.workflow.total_seconds() * 1000)
    if inv.row.idempotency_key is not None or (isinstance(outcome, Failure) and not inv.row.origin.caller):
        return round(retention.idempotency.total_seconds() * 1000)
    return None


def pause_ms(error: BaseException, planned_ms: int) -> int:
    """The pause that the policy has planned, or the longer one that the error asks for."""
    if isinstance(error, RetryableError) and error.retry_after is not None:
        return max(planned_ms, round(error.retry_after.total_seconds() * 1000))
    return planned_ms
