"""A session that runs one handler after the other: what leaves no trace is run in it again, the rest is told apart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from datetime import timedelta
from typing import Any

import pytest

from streamstate import Record, StateKey, TerminalError, VirtualObject
from streamstate.context import Blocked, Ended, Failed, ObjectContext, Session, running
from streamstate.definitions import HandlerSpec
from streamstate.errors import ForeignAwaitError
from streamstate.journal import Command, Completion, Failure, Kind, Success
from tests.context.driver import STARTED_MS, new_session

RECORD = Record("topic", 0, 0, 0, b"k", b"1")
COUNT = StateKey[int]("count", default=0)
Handler = Callable[[ObjectContext], Coroutine[Any, Any, Any]]


def silent() -> HandlerSpec:
    """Of a handler that takes a number and returns nothing; which function it is does not matter here."""
    basket = VirtualObject("Basket")

    @basket.handler
    async def take(ctx: ObjectContext, number: int) -> None:
        ctx.set(COUNT, number)

    return take.spec


def talking() -> HandlerSpec:
    """Of a handler that returns something."""
    basket = VirtualObject("Basket")

    @basket.handler
    async def take(ctx: ObjectContext) -> object:
        return None

    return take.spec


class Reused:
    """One session, and the context that its handlers get."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.context = ObjectContext(session)

    def run(self, handler: Handler, key: str = "k", **values: bytes) -> bool:
        self.values = values
        return self.session.run_at_once(handler(self.context), key, values, RECORD)


@pytest.fixture
def reused(request: pytest.FixtureRequest) -> Iterator[Reused]:
    session = new_session(getattr(request, "param", silent)())
    with running(session.loop):
        session.root.enter()
        try:
            yield Reused(session)
        finally:
            session.root.leave()
            session.close()


async def count(ctx: ObjectContext) -> None:
    ctx.set(COUNT, await ctx.get(COUNT) + 1)


def test_handlers_that_only_read_and_write_run_one_after_the_other_each_on_its_own_state(reused: Reused) -> None:
    for number in range(3):
        assert reused.run(count, f"k{number}", count=b"%d" % number)
        assert reused.session.changes == {"count": b"%d" % (number + 1)}
        assert (reused.session.key, reused.session.record) == (f"k{number}", RECORD)
        assert reused.session.effects is None


def test_one_that_reads_only_changes_nothing(reused: Reused) -> None:
    async def look(ctx: ObjectContext) -> None:
        assert await ctx.get(COUNT) == 4

    assert reused.run(count)
    assert reused.run(look, count=b"4")
    assert reused.session.changes is None


def test_a_message_is_an_effect_to_be_carried_out_and_nothing_is_pending(reused: Reused) -> None:
    async def tell(ctx: ObjectContext) -> None:
        ctx.set(COUNT, 1)
        ctx.publish("out", 1)

    assert not reused.run(tell)
    assert isinstance(reused.session.outcome, Ended)
    assert [command.kind for _, command in reused.session.effects or ()] == [Kind.PUBLISH]
    assert reused.session.changes == {"count": b"1"}


@pytest.mark.parametrize("reused", [talking], indirect=True)
def test_a_result_is_encoded(reused: Reused) -> None:
    async def give(ctx: ObjectContext) -> list[int]:
        return [1]

    assert not reused.run(give)
    assert reused.session.outcome == Ended(Success(b"[1]"))


def test_one_that_blocks_goes_on_from_its_notes_as_a_journal(reused: Reused) -> None:
    async def wait(ctx: ObjectContext) -> None:
        ctx.set(COUNT, 5)
        await ctx.sleep(timedelta(seconds=1))
        ctx.set(COUNT, await ctx.get(COUNT) + 1)

    assert not reused.run(wait, count=b"4")
    session = reused.session
    assert isinstance(session.outcome, Blocked)
    turn = session.take_turn()
    assert turn.changes == {"count": b"5"}
    log = session.machine.log
    assert [entry.kind for entry in log if isinstance(entry, Command)] == [Kind.SET, Kind.SLEEP]
    reused.values["count"] = b"5"  # as the engine does
    session.root.leave()
    session.arrive(Completion(1, Success(None), STARTED_MS + 1_000))
    session.root.enter()
    assert isinstance(session.outcome, Ended)
    assert session.take_turn().changes == {"count": b"6"}


@pytest.mark.parametrize(
    ("error", "code"), [(TerminalError("no", code=422), 422), (TimeoutError(), 408)], ids=["terminal", "late"]
)
def test_one_that_fails_for_good_ends_with_its_failure(reused: Reused, error: Exception, code: int) -> None:
    async def fail(ctx: ObjectContext) -> None:
        ctx.set(COUNT, 1)
        raise error

    assert not reused.run(fail)
    outcome = reused.session.outcome
    assert isinstance(outcome, Ended)
    assert isinstance(outcome.outcome, Failure)
    assert outcome.outcome.code == code
    assert reused.session.changes == {"count": b"1"}, "what was written before a terminal error stays"


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3)])
def test_one_that_fails_is_an_attempt(reused: Reused, error: BaseException) -> None:
    async def fail(ctx: ObjectContext) -> None:
        raise error

    assert not reused.run(fail)
    outcome = reused.session.outcome
    assert isinstance(outcome, Failed)
    assert outcome.error is error or outcome.error.__cause__ is error


def test_one_that_awaits_the_outside_world_is_a_fault(reused: Reused) -> None:
    async def wait(ctx: ObjectContext) -> None:
        await asyncio.Event().wait()

    assert not reused.run(wait)
    outcome = reused.session.outcome
    assert isinstance(outcome, Failed)
    assert outcome.is_fault
    assert isinstance(outcome.error, ForeignAwaitError)


def test_one_with_tasks_that_end_in_the_turn_leaves_a_used_session(reused: Reused) -> None:
    async def gather(ctx: ObjectContext) -> None:
        await asyncio.gather(count(ctx), count(ctx))

    assert not reused.run(gather)
    assert reused.session.take_turn().changes == {"count": b"2"}
    assert isinstance(reused.session.outcome, Ended)


def test_one_that_cancels_itself_is_not_taken_for_a_plain_end(reused: Reused) -> None:
    async def cancel(ctx: ObjectContext) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    assert not reused.run(cancel)
    assert reused.session.notes is None, "it has a journal now, and is not used again"


def test_a_payload_is_decoded_for_the_handler() -> None:
    session = new_session(silent())
    with running(session.loop):
        session.start_encoded(ObjectContext(session), b"5", silent().input.decode)
    assert isinstance(session.outcome, Ended)
    assert session.take_turn().changes == {"count": b"5"}


def test_a_payload_that_does_not_fit_ends_it_before_the_handler_sees_anything() -> None:
    session = new_session(silent())
    with running(session.loop):
        session.start_encoded(ObjectContext(session), b"?", silent().input.decode)
    outcome = session.outcome
    assert isinstance(outcome, Ended)
    assert isinstance(outcome.outcome, Failure)
    assert outcome.outcome.code == 400
    assert "Basket.take cannot take this payload: not a JSON int" in outcome.outcome.message
    assert session.take_turn().changes is None
