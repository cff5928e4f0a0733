"""The verbs: what command each one issues, and what it gives, live and on replay. No engine."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from streamstate import (
    Context,
    ObjectContext,
    Service,
    StateKey,
    TerminalError,
    Topic,
    VirtualObject,
    Workflow,
    WorkflowContext,
)
from streamstate.definitions import ServiceKind
from streamstate.errors import UsageError
from streamstate.journal import Command, Failure, Kind, Success, awakeable_id, child_identity, keyed_identity
from streamstate.journal import workflow_identity as flow_identity
from tests.context.driver import STARTED_MS, Program, Script, Tell, check, run_live

ME = child_identity("test", 0)
NO = Failure(500, "no")

carts, mails, flows = VirtualObject("Basket"), Service("Mail"), Workflow("Flow")


@carts.handler
async def add(ctx: ObjectContext, amount: int) -> int:
    raise NotImplementedError


@mails.handler
async def post(ctx: Context) -> None:
    raise NotImplementedError


@flows.main
async def flow(ctx: WorkflowContext) -> str:
    raise NotImplementedError


def of_a_workflow(program: Program) -> Program:
    program.service_kind = ServiceKind.WORKFLOW  # type: ignore[attr-defined]  # the driver asks for it
    return program


ISSUED: dict[str, tuple[Callable[[Any], object], Command]] = {
    "send": (lambda ctx: ctx.send(post), Command(Kind.SEND, "Mail/post", body=b"")),
    "send with everything": (
        lambda ctx: ctx.send(add, 2, key="k", delay=timedelta(seconds=1), idempotency_key="i", headers={"h": "1"}),
        Command(Kind.SEND, "Basket/add", "k", b"2", {"idempotency_key": "i", "headers": {"h": "1"}, "delay_ms": 1_000}),
    ),
    "cancel": (lambda ctx: ctx.invocation("inv_a").cancel(), Command(Kind.CANCEL, "inv_a")),
    "signal": (
        lambda ctx: ctx.invocation("inv_a").signal("paid").resolve(3),
        Command(Kind.SEND_SIGNAL, "paid", body=b"3", options={"invocation": "inv_a"}),
    ),
    "signal of a failure": (
        lambda ctx: ctx.invocation("inv_a").signal("paid").reject("no"),
        Command(Kind.SEND_SIGNAL, "paid", options={"reason": "no", "invocation": "inv_a"}),
    ),
    "resolve an awakeable": (
        lambda ctx: ctx.resolve_awakeable("sign_a_1", [1]),
        Command(Kind.COMPLETE_AWAKEABLE, "sign_a_1", body=b"[1]"),
    ),
    "reject an awakeable": (
        lambda ctx: ctx.reject_awakeable("sign_a_1", "no"),
        Command(Kind.COMPLETE_AWAKEABLE, "sign_a_1", options={"reason": "no"}),
    ),
    "publish": (lambda ctx: ctx.publish("out", {"a": 1}), Command(Kind.PUBLISH, "out", body=b'{"a":1}')),
    "publish with everything": (
        lambda ctx: ctx.publish(Topic[int]("out", cluster="main"), 1, key="k", headers={"h": "1"}),
        Command(Kind.PUBLISH, "out", body=b"1", options={"cluster": "main", "key": b"k", "headers": {"h": "1"}}),
    ),
    "publish a tombstone": (
        lambda ctx: ctx.publish("out", None, key=b"k"),
        Command(Kind.PUBLISH, "out", options={"key": b"k"}),
    ),
}


@pytest.mark.parametrize("what", ISSUED)
def test_a_verb_without_an_answer_issues_its_command(what: str) -> None:
    verb, expected = ISSUED[what]

    async def program(ctx: ObjectContext, tell: Tell) -> None:
        verb(ctx)
        await ctx.sleep(timedelta(seconds=1))  # so that there is a journal, and a replay of it

    issued = check(program).commands[0]
    assert issued.site.startswith(__file__)
    assert (issued.kind, issued.name, issued.key) == (expected.kind, expected.name, expected.key)
    assert (issued.body, issued.options) == (expected.body, expected.options)


ANSWERED: dict[str, tuple[Callable[[Any], Awaitable[object]], str, bytes | None, object]] = {
    "call": (lambda ctx: ctx.call(add, 2, key="k"), "Basket/add", b"5", 5),
    "attach": (lambda ctx: ctx.invocation("inv_a").attach(), "inv_a", b'{"a":1}', {"a": 1}),
    "attach with a type": (lambda ctx: ctx.invocation("inv_a").attach(list[int]), "inv_a", b"[1]", [1]),
    "attach to what was sent": (lambda ctx: ctx.send(add, 2, key="k").attach(), child_identity(ME, 0), b"7", 7),
    "awakeable": (lambda ctx: ctx.awakeable(int), Kind.AWAKEABLE, b"3", 3),
    "awakeable of nothing": (lambda ctx: ctx.awakeable(type(None)), Kind.AWAKEABLE, b"", None),
}


@pytest.mark.parametrize("what", ANSWERED)
def test_a_verb_gives_what_its_answer_says(what: str) -> None:
    verb, name, raw, expected = ANSWERED[what]

    async def program(ctx: ObjectContext, tell: Tell) -> None:
        tell(await verb(ctx))

    assert check(program, Script(answers={name: Success(raw)})).words == [expected]


@pytest.mark.parametrize("what", ANSWERED)
def test_a_verb_raises_what_its_answer_failed_with(what: str) -> None:
    verb, name, _raw, _expected = ANSWERED[what]

    async def program(ctx: ObjectContext, tell: Tell) -> None:
        try:
            await verb(ctx)
        except TerminalError as error:
            tell((error.code, error.message))

    assert check(program, Script(answers={name: NO})).words == [(500, "no")]


def test_an_answer_that_does_not_fit_is_an_error_of_the_one_who_awaits_it() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> int:
        return await ctx.call(add, 2, key="k")

    run = run_live(program, Script(answers={"Basket/add": Success(b'"text"')}))
    assert "not a JSON int" in str(run.error)
    run.close()


PROMISED: dict[str, tuple[Callable[[Any], object], Command]] = {
    "resolve": (lambda p: p.resolve(1), Command(Kind.COMPLETE_PROMISE, "paid", body=b"1")),
    "reject": (lambda p: p.reject("no"), Command(Kind.COMPLETE_PROMISE, "paid", options={"reason": "no"})),
}


@pytest.mark.parametrize("what", PROMISED)
def test_a_promise_is_completed_by_a_command(what: str) -> None:
    complete, expected = PROMISED[what]

    async def program(ctx: WorkflowContext, tell: Tell) -> None:
        complete(ctx.promise("paid", int))
        await ctx.sleep(timedelta(seconds=1))

    issued = check(of_a_workflow(program)).commands[0]
    assert (issued.kind, issued.name, issued.body, issued.options) == (
        expected.kind,
        expected.name,
        expected.body,
        expected.options,
    )


@pytest.mark.parametrize("answer", [Success(b"4"), NO])
@pytest.mark.parametrize("way", ["await", "wait", "peek"])
def test_a_promise_gives_its_value_or_its_failure(way: str, answer: Success | Failure) -> None:
    async def program(ctx: WorkflowContext, tell: Tell) -> None:
        promise = ctx.promise("paid", int)
        try:
            tell(await (promise.wait() if way == "wait" else promise.peek() if way == "peek" else promise))
        except TerminalError as error:
            tell(error.message)

    expected = 4 if isinstance(answer, Success) else "no"
    assert check(of_a_workflow(program), Script(answers={"paid": answer})).words == [expected]


def test_the_time_is_that_of_the_first_attempt() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        tell(await ctx.time())
        await ctx.sleep(timedelta(seconds=1))

    assert check(program).words == [datetime.fromtimestamp(STARTED_MS / 1_000, UTC)]


def test_random_numbers_and_uuids_are_the_same_on_every_attempt_and_differ_between_each_other() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        for _ in range(2):
            tell(ctx.uuid())
            tell(ctx.random.random())
            await ctx.sleep(timedelta(seconds=1))

    words = check(program).words
    assert len(set(words)) == 4
    assert {word.version for word in words[::2]} == {4}  # type: ignore[attr-defined]  # UUIDs


def test_a_handler_knows_who_it_is() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        tell((ctx.invocation_id, ctx.key, dict(ctx.headers), ctx.record))
        tell(ctx.awakeable(int).id)
        tell(await ctx.send(post).id())
        tell(await ctx.send(add, 1, key="k", idempotency_key="i").id())
        tell(await ctx.send(flow, key="f").id())
        await ctx.sleep(timedelta(seconds=1))

    run = check(program)
    ids = [child_identity(ME, 1), keyed_identity("Basket", "add", "k", "i"), flow_identity("Flow", "f")]
    assert run.words == [(ME, "k1", {}, None), awakeable_id(ME, 0), *ids]


def test_a_service_of_another_program_is_called_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.context.driver.find_nothing", lambda service, handler: add.spec)

    async def program(ctx: ObjectContext, tell: Tell) -> None:
        tell(await ctx.call_by_name("Basket", "add", {"any": 1}, key="k", returns=int, headers={"h": "1"}))
        tell(await ctx.call_by_name("Basket", "add", key="k", returns=int))
        sent = ctx.send_by_name("Basket", "add", 1, key="k", delay=timedelta(seconds=2), idempotency_key="i")
        tell(await sent.attach())

    sent = keyed_identity("Basket", "add", "k", "i")
    run = check(program, Script(answers={"Basket/add": Success(b"1"), sent: Success(b'"x"')}))
    assert run.words == [1, 1, "x"]
    assert [command.body for command in run.commands] == [b'{"any":1}', b"", b"1", None]
    assert run.commands[2].options == {"idempotency_key": "i", "delay_ms": 2_000}


def test_a_key_of_the_state_is_read_written_and_cleared() -> None:
    total = StateKey[int]("total", default=7)

    async def program(ctx: ObjectContext, tell: Tell) -> None:
        tell([await ctx.get(total), await ctx.get("old"), await ctx.get("none"), await ctx.state_keys()])
        ctx.set(total, 1)
        ctx.set("new", [1])
        ctx.clear("old")
        tell([await ctx.get(total), await ctx.get("old"), await ctx.get("new"), await ctx.state_keys()])
        ctx.clear(total)
        tell([await ctx.get(total), await ctx.state_keys()])
        ctx.clear_all()
        tell([await ctx.get("new"), await ctx.state_keys()])
        await ctx.sleep(timedelta(seconds=1))

    run = check(program, Script(values={"old": 5}))
    assert run.words == [[7, 5, None, ["old"]], [1, None, [1], ["new", "total"]], [7, ["new"]], [None, []]]


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (lambda ctx: ctx.get(5), "ctx.get takes a key of the state"),
        (lambda ctx: ctx.set(5, 1), "ctx.set takes a key of the state"),
        (lambda ctx: ctx.clear(5), "ctx.clear takes a key of the state"),
        (lambda ctx: ctx.set("\ud800", 1), "is not Unicode text"),
        (lambda ctx: ctx.signal("\ud800", int), "the name of a signal '.ud800' is not Unicode text: surrogates not"),
        (lambda ctx: ctx.send(add, 1, key="\ud800"), "the key '.ud800' is not Unicode"),
        (lambda ctx: ctx.send(post, idempotency_key="\ud800"), "idempotency key '.ud800' is not Unicode"),
        (lambda ctx: ctx.send(post, headers={"\ud800": ""}), "a header's name '.ud800' is not Unicode"),
        (lambda ctx: ctx.send(post, headers={"h": "\ud800"}), "the header 'h' '.ud800' is not Unicode"),
        (lambda ctx: ctx.resolve_awakeable("x"), "not the id of an awakeable"),
        (lambda ctx: ctx.reject_awakeable("x", "no"), "not the id of an awakeable"),
    ],
)
def test_what_cannot_be_kept_is_refused_where_it_is_given(use: Callable[[Any], object], text: str) -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        with pytest.raises(UsageError, match=text):
            use(ctx)
        tell("refused")

    assert run_live(program).words == ["refused"]


class Clerk:
    """Actions of every sort."""

    def method(self, name: str) -> int:
        return len(name)

    async def later(self, name: str) -> str:
        return name.upper()


def unannotated(name):  # type: ignore[no-untyped-def]  # under test
    return {"name": name}


def of_an_unknown_type(name: str) -> Unknown:  # type: ignore[name-defined]  # noqa: F821  # under test
    return name


def promised(name: str) -> Awaitable[int]:
    async def work() -> int:
        return len(name)

    return work()


def started(name: str) -> Coroutine[Any, Any, list[str]]:
    async def work() -> list[str]:
        return [name]

    return work()


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (Clerk().method, 3),
        (Clerk().later, "ANN"),
        (functools.partial(Clerk().method), 3),
        (functools.partial(Clerk().later), "ANN"),
        (unannotated, {"name": "ann"}),
        (of_an_unknown_type, "ann"),
        (promised, 3),
        (started, ["ann"]),
    ],
    ids=["method", "async", "partial", "partial async", "unannotated", "unknown type", "awaitable", "coroutine"],
)
def test_a_step_gives_what_its_action_returned_by_its_annotation(action: Any, expected: object) -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        tell(await ctx.run("step", action, "ann"))

    assert check(program).words == [expected]


def test_an_awakeable_that_nobody_waits_for_any_more_takes_its_answer_quietly() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        approval = ctx.awakeable(int)
        try:
            await asyncio.wait_for(approval, 0.5)
        except TimeoutError:
            tell("late")
        await ctx.sleep(timedelta(seconds=2))
        tell(approval.cancelled())

    run = check(program, Script(durations={"": 1_000}, answers={Kind.AWAKEABLE: Success(b"1")}))
    assert run.words == ["late", True]
