"""A mismatch shows the index, what was recorded and what was attempted, each with its line."""

from __future__ import annotations

import msgspec
import pytest

from streamstate.errors import JournalMismatchError
from streamstate.journal import Command, Completion, Entry, Failure, Kind, Machine, Phase, Success

SEND = Command(
    Kind.SEND, "Driver/moved", "d1", b'{"lat":1}', {"delay_ms": 5, "headers": {"a": "b"}}, None, "shop/order.py:14"
)
RECORDED_SEND = (
    "send 'Driver/moved' key 'd1' with {\"lat\":1} options {'delay_ms': 5, 'headers': {'a': 'b'}} at shop/order.py:14"
)
CHARGE = Command(Kind.RUN, "charge", site="shop/order.py:7")
CHARGED = Completion(0, Success(b"1"), 5)
REMEDY = (
    "A handler must issue the same commands in the same order on every attempt. Usual causes: code changed under "
    "a suspended invocation, or a branch on time, randomness or outside data read without ctx.run. "
    "Run the old code again and resume the invocation, or kill it."
)


def text(index: int, recorded: str, attempted: str) -> str:
    return (
        f"the code of Cart/k1.pay does not fit its journal, at command {index}.\n"
        f"  recorded:  {recorded}\n  attempted: {attempted}\n{REMEDY}"
    )


def machine_of(*recorded: Entry) -> Machine:
    return Machine(recorded, "Cart/k1.pay")


@pytest.mark.parametrize(
    ("field", "value", "attempted"),
    [
        (
            "kind",
            "call",
            "call 'Driver/moved' key 'd1' with {\"lat\":1} options {'delay_ms': 5, 'headers': {'a': 'b'}} at new.py:2",
        ),
        (
            "name",
            "Driver/gone",
            "send 'Driver/gone' key 'd1' with {\"lat\":1} options {'delay_ms': 5, 'headers': {'a': 'b'}} at new.py:2",
        ),
        (
            "key",
            "d2",
            "send 'Driver/moved' key 'd2' with {\"lat\":1} options {'delay_ms': 5, 'headers': {'a': 'b'}} at new.py:2",
        ),
        (
            "key",
            None,
            "send 'Driver/moved' with {\"lat\":1} options {'delay_ms': 5, 'headers': {'a': 'b'}} at new.py:2",
        ),
        (
            "body",
            b"\xff2",
            "send 'Driver/moved' key 'd1' with \\xff2 options {'delay_ms': 5, 'headers': {'a': 'b'}} at new.py:2",
        ),
        ("body", None, "send 'Driver/moved' key 'd1' options {'delay_ms': 5, 'headers': {'a': 'b'}} at new.py:2"),
        (
            "options",
            {"delay_ms": 6},
            "send 'Driver/moved' key 'd1' with {\"lat\":1} options {'delay_ms': 6} at new.py:2",
        ),
        ("options", None, "send 'Driver/moved' key 'd1' with {\"lat\":1} at new.py:2"),
    ],
)
def test_another_value_of_a_compared_field_is_shown_beside_the_recorded_one(
    field: str, value: object, attempted: str
) -> None:
    machine = machine_of(CHARGE, SEND)
    machine.issue(CHARGE)
    with pytest.raises(JournalMismatchError) as caught:
        machine.issue(msgspec.structs.replace(SEND, site="new.py:2", **{field: value}))
    assert str(caught.value) == text(1, RECORDED_SEND, attempted)
    assert machine.phase is Phase.BROKEN
    assert machine.commands == 1


def test_an_empty_name_and_no_site_are_left_out() -> None:
    machine = machine_of(Command(Kind.TIME))
    with pytest.raises(JournalMismatchError) as caught:
        machine.issue(Command(Kind.CLEAR_ALL))
    assert str(caught.value) == text(0, "time", "clear-all")


@pytest.mark.parametrize(("length", "shown"), [(80, "x" * 80), (81, "x" * 80 + "…")])
def test_a_long_payload_is_shown_in_part(length: int, shown: str) -> None:
    machine = machine_of(CHARGE)
    with pytest.raises(JournalMismatchError) as caught:
        machine.issue(Command(Kind.PUBLISH, "orders", None, b"x" * length))
    assert f"attempted: publish 'orders' with {shown}\n" in str(caught.value)


def test_a_command_that_is_missing_is_found_when_the_handler_runs_dry() -> None:
    machine = machine_of(CHARGE, CHARGED, SEND)
    machine.issue(CHARGE)
    machine.advance()
    with pytest.raises(JournalMismatchError) as caught:
        machine.advance()
    assert str(caught.value) == text(1, RECORDED_SEND, "nothing: the handler ended or waits for something else")
    assert machine.phase is Phase.BROKEN


def test_a_command_too_many_is_found_where_the_log_has_an_arrival() -> None:
    machine = machine_of(CHARGE, CHARGED)
    machine.issue(CHARGE)
    with pytest.raises(JournalMismatchError) as caught:
        machine.issue(SEND)
    nothing = "nothing more here: it went on only when the next result arrived"
    assert str(caught.value) == text(1, nothing, RECORDED_SEND)


@pytest.mark.parametrize(
    ("rest", "recorded"),
    [
        (SEND, RECORDED_SEND),
        (CHARGED, "nothing more here: it went on only when the next result arrived"),
    ],
)
def test_a_handler_that_ends_too_early_is_found(rest: Entry, recorded: str) -> None:
    machine = machine_of(CHARGE, rest)
    machine.issue(CHARGE)
    with pytest.raises(JournalMismatchError) as caught:
        machine.end()
    assert str(caught.value) == text(1, recorded, "nothing: the handler ended or waits for something else")
    assert machine.phase is Phase.BROKEN


def test_a_command_that_moved_to_another_line_is_the_same_command() -> None:
    machine = machine_of(SEND)
    assert machine.issue(msgspec.structs.replace(SEND, site="moved.py:99")) == SEND


@pytest.mark.parametrize("result", [None, Success(b"2"), Failure(500, "no")])
def test_results_are_not_compared(result: Success | Failure | None) -> None:
    recorded = Command(Kind.GET, "total", result=Success(b"1"))
    machine = machine_of(recorded)
    assert machine.issue(Command(Kind.GET, "total", result=result)).result == Success(b"1")
