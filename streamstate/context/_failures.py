"""Exceptions to failures and back: what is terminal, what is retried, what is a fault of the handler."""

from __future__ import annotations

import asyncio
import traceback

from streamstate.errors import (
    CallCycleError,
    CancelledError,
    HandlerFault,
    InputError,
    NotFoundError,
    TerminalError,
)
from streamstate.journal import Failure, Outcome

_TIMEOUT_CODE = 408
_CODE_MAX = 2**31 - 1  # what every store and client takes; HTTP needs 599
_KIND = "streamstate.error"  # metadata: which of our terminal errors it was
_KINDS = {error.__name__: error for error in (CallCycleError, CancelledError, InputError, NotFoundError)}
_DETAIL_CHARS_MAX = 4_000  # the end of a stack says most


def failure_of(error: BaseException) -> Failure | None:
    """The failure that ends an invocation, or None when the error is to be retried or is a fault."""
    if isinstance(error, TerminalError):
        metadata = {_text(name): _text(value) for name, value in error.metadata.items()}
        kind = next((name for name, known in _KINDS.items() if isinstance(error, known)), None)
        if kind is not None:
            metadata[_KIND] = kind
        return Failure(_code(error), _text(error.message), metadata, describe(error))
    if isinstance(error, TimeoutError):
        return Failure(_TIMEOUT_CODE, _text(error) or "timed out", {}, describe(error))
    if isinstance(error, asyncio.CancelledError):
        return Failure(CancelledError.default_code, "the handler cancelled its own task", {}, describe(error))
    if isinstance(error, BaseExceptionGroup):
        failures = [failure_of(inner) for inner in error.exceptions]
        if all(failure is not None for failure in failures):
            return failures[0]
    return None


def error_of(failure: Failure) -> TerminalError:
    """The exception that a handler or a caller sees for a failure."""
    kind = _KINDS.get(failure.metadata.get(_KIND, ""), TerminalError)
    metadata = {name: value for name, value in failure.metadata.items() if name != _KIND}
    return kind(failure.message, code=failure.code, metadata=metadata)


def is_cancellation(outcome: Outcome) -> bool:
    """True for the outcome of an invocation that ended by being cancelled."""
    return isinstance(outcome, Failure) and outcome.metadata.get(_KIND) == CancelledError.__name__


def is_fault(error: BaseException) -> bool:
    """True when another attempt would only repeat it."""
    return isinstance(error, HandlerFault)


def describe(error: BaseException) -> str:
    """The stack of an error for a person, its end first to keep."""
    text = _text("".join(traceback.format_exception(error)))
    return text if len(text) <= _DETAIL_CHARS_MAX else "…" + text[-_DETAIL_CHARS_MAX:]


def summarize(error: BaseException) -> str:
    """The kind of an error and its message, in one line that can be stored."""
    return f"{type(error).__name__}: {_text(error)}"


def _code(error: TerminalError) -> int:
    code = error.code
    return int(code) if isinstance(code, int) and 0 <= code <= _CODE_MAX else error.default_code


def _text(value: object) -> str:
    """Text that can be stored, whatever it was: strings may hold what UTF-8 cannot, such as undecodable file names."""
    try:
        text = str(value)
    except Exception:  # noqa: BLE001  # the user's own __str__; what it was about is still to be told
        text = f"<{type(value).__name__} without a text>"
    return text.encode("utf-8", "backslashreplace").decode()
