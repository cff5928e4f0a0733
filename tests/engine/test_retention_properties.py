"""Retention: nothing live goes, nothing goes early, and all that has expired does (I2, I12).

In any order of runs, answers, attachments, crashes and time.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from streamstate import (
    Context,
    ObjectContext,
    Retention,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
)
from streamstate.definitions import HandlerSpec
from streamstate.engine._upkeep import PURGE_EVERY_MS
from streamstate.journal import Outcome, Success, awakeable_id
from streamstate.storage import Status
from tests.engine.process import Process
from tests.engine.world import MINUTE, SECOND
from tests.properties import examples

KEPT = Retention(idempotency=5 * MINUTE, workflow=8 * MINUTE)
MINUTE_MS = 60_000
NAMES = st.sampled_from(["x", "y"])
ENDS = st.sampled_from(["well", "badly", "later"])
CHOICES = st.integers(0, 99)


@dataclass
class Run:
    """What the model knows of one invocation.

    Attributes:
        kept: how long after its end; None is not at all.
        ended_ms: None while it is live.
        watchers: what waits for it, by attaching.
    """

    id: str
    target: str
    key: str
    end: str
    kept: timedelta | None
    ended_ms: int | None = None
    watchers: list[asyncio.Task[Outcome]] = field(default_factory=list)

    @property
    def result(self) -> str:
        return "failed 500" if self.end == "badly" else self.key


class Kept(RuleBasedStateMachine):
    """Workflows, calls with and without an idempotency key, and who attaches to them."""

    def __init__(self) -> None:
        super().__init__()
        flows, works, watches = Workflow("Flow", retention=KEPT), Service("Work", retention=KEPT), Service("Watch")
        carts = VirtualObject("Cart", retention=KEPT)

        @flows.main
        async def run(ctx: WorkflowContext, end: str) -> str:
            runs = (await ctx.get("runs") or 0) + 1
            ctx.set("runs", runs)
            assert runs == 1, "the state of a run before was still there"
            assert await ctx.promise("told", str).peek() is None
            ctx.promise("told", str).resolve("yes")
            return await self._end(ctx, end, ctx.key)

        @flows.shared
        async def told(ctx: WorkflowSharedContext) -> str | None:
            return await ctx.promise("told", str).peek()

        @works.handler
        async def work(ctx: Context, order: tuple[str, str]) -> str:
            return await self._end(ctx, *order)

        @carts.handler
        async def put(ctx: ObjectContext, end: str) -> str:
            ctx.set("full", True)
            return await self._end(ctx, end, ctx.key)

        @watches.handler
        async def watch(ctx: Context, invocation: str) -> str:
            try:
                return str(await ctx.invocation(invocation).attach(str))
            except TerminalError as error:
                return f"failed {error.code}"

        self.specs: dict[str, HandlerSpec] = {"Flow": run.spec, "Work": work.spec, "Cart": put.spec}
        self.told, self.watch = told.spec, watch.spec
        self.process = Process([flows, works, carts, watches], pytest.MonkeyPatch(), live_max=3)
        self.runs: dict[str, Run] = {}
        self.gone: list[Run] = []
        self.started_ms = 0

    async def _end(self, ctx: Context, end: str, result: str) -> str:
        if end == "later":
            await ctx.awakeable(str)
        if end == "badly":
            raise TerminalError("no")
        return result

    @initialize()
    def starts(self) -> None:
        self.process.start()
        self.started_ms = self.process.clock.now_ms()

    @rule(what=st.sampled_from(["Flow", "Work", "Cart"]), name=NAMES, end=ENDS)
    def is_called_by_an_identity(self, what: str, name: str, end: str) -> None:
        """I2: what is kept is found again, what has gone begins anew, and in between it is one of the two."""
        key = "" if what == "Work" else name
        body = [end, name] if what == "Work" else end
        idempotency_key = None if what == "Flow" else name
        invocation, is_new = self._call(self.specs[what], key, body, idempotency_key)
        known = self.runs.get(invocation)
        if known is not None and (known.ended_ms is None or self._is_kept(known)):
            assert not is_new
        if known is None or self._has_to_be_gone(known):
            assert is_new
        if is_new:
            if known is not None:
                self._forget(known)
            kept = KEPT.workflow if what == "Flow" else KEPT.idempotency
            self._begin(Run(invocation, what, name, end, kept))

    @rule(name=NAMES, end=ENDS)
    def is_called_plainly(self, name: str, end: str) -> None:
        invocation, is_new = self._call(self.specs["Work"], "", [end, name], None)
        assert is_new
        self._begin(Run(invocation, "Work", name, end, KEPT.idempotency if end == "badly" else None))

    @precondition(lambda self: self._live())
    @rule(choice=CHOICES)
    def gets_its_answer(self, choice: int) -> None:
        live = self._live()
        run = live[choice % len(live)]
        commands = {"Flow": 4, "Work": 0, "Cart": 1}
        awakeable = awakeable_id(run.id, commands[run.target])
        assert self.process.running.engine.complete_awakeable(awakeable, Success(b'"go"'))
        self.process.settle()
        run.ended_ms = self.process.clock.now_ms()
        self._check()

    @precondition(lambda self: self.runs)
    @rule(choice=CHOICES)
    def is_attached_to(self, choice: int) -> None:
        run = list(self.runs.values())[choice % len(self.runs)]
        is_kept, is_gone = run.ended_ms is None or self._is_kept(run), self._has_to_be_gone(run)
        body = msgspec.json.encode(run.id)
        watcher = self.process.loop.create_task(self.process.running.engine.call(self.watch, "", body))
        self.process.settle()
        if run.ended_ms is None:
            run.watchers.append(watcher)
        elif is_kept:
            assert watcher.result() == _said(run.result)
        elif is_gone:
            assert watcher.result() == _said("failed 404")
        else:
            assert watcher.result() in (_said(run.result), _said("failed 404"))

    @rule(seconds=st.sampled_from([1, 59, 120, 299, 480]))
    def time_passes(self, seconds: int) -> None:
        self.process.loop.run(self.process.clock.advance(seconds * SECOND))
        self._check()

    @rule(is_crash=st.booleans())
    def starts_again(self, is_crash: bool) -> None:
        for run in self.runs.values():
            for watcher in run.watchers:
                watcher.cancel()  # its process is gone; the watching invocation is not
            run.watchers.clear()
        if is_crash:
            self.process.crash()
        else:
            self.process.restart()
        self.started_ms = self.process.clock.now_ms()
        self.process.settle()
        self._check()

    def teardown(self) -> None:
        """I12: in the end, when all have ended and their time is over, nothing of them is left."""
        try:
            while self._live():
                self.gets_its_answer(0)
            self.process.loop.run(self.process.clock.advance(10 * MINUTE))
            self._check()
            content = self.process.store._content
            left = (content.invocations, content.journal, content.timers, content.waiters, content.promises)
            assert not any(left), left
            assert {service for service, _ in content.state} <= {"Cart"}
        finally:
            self.process.close()

    def _call(self, spec: HandlerSpec, key: str, body: Any, idempotency_key: str | None) -> tuple[str, bool]:
        engine = self.process.running.engine
        called = engine._accept(spec, key, msgspec.json.encode(body), None, idempotency_key, None)
        engine._kick()
        self.process.settle()
        return called

    def _begin(self, run: Run) -> None:
        if run.end != "later":
            run.ended_ms = self.process.clock.now_ms()
        self.runs[run.id] = run
        self._check()

    def _forget(self, run: Run) -> None:
        assert all(watcher.done() for watcher in run.watchers)
        self.gone.append(self.runs.pop(run.id))

    def _live(self) -> list[Run]:
        return [run for run in self.runs.values() if run.ended_ms is None]

    def _is_kept(self, run: Run) -> bool:
        now_ms = self.process.clock.now_ms()
        return run.kept is not None and run.ended_ms is not None and now_ms < run.ended_ms + _ms(run.kept)

    def _has_to_be_gone(self, run: Run) -> bool:
        """The purge comes round once in a while, from the start of the process on."""
        if run.ended_ms is None:
            return False
        if run.kept is None:
            return True
        expired_ms = run.ended_ms + _ms(run.kept)
        return self.process.clock.now_ms() >= max(expired_ms, self.started_ms) + PURGE_EVERY_MS

    def _check(self) -> None:
        store = self.process.store
        for run in self.runs.values():
            row = store.invocations.get(run.id)
            if run.ended_ms is None:
                assert row is not None, "live, and purged"
                assert row.status is not Status.COMPLETED
                assert not any(watcher.done() for watcher in run.watchers)
                continue
            assert [watcher.result() for watcher in run.watchers] == [_said(run.result)] * len(run.watchers)
            if self._is_kept(run):
                assert row is not None, "purged before its time"
                assert row.status is Status.COMPLETED
                told = f"failed {row.failure.code}" if row.failure else msgspec.json.decode(row.result or b"")
                assert told == run.result
                if run.target == "Flow":
                    assert store.state("Flow", run.key) == {"runs": b"1"}
                    assert store.promise(("Flow", run.key, "told")) == Success(b'"yes"')
            elif self._has_to_be_gone(run):
                assert row is None, "its time is over"
                assert store.invocations.journal(run.id) == []
                if run.target == "Flow":
                    assert store.state("Flow", run.key) == {}
                    assert store.promise(("Flow", run.key, "told")) is None
        for run in (*self.runs.values(), *self.gone):
            if run.target == "Cart" and run.ended_ms is not None:
                assert store.state("Cart", run.key) == {"full": b"true"}, "an object's state has no retention"


def _ms(duration: timedelta) -> int:
    return round(duration / timedelta(milliseconds=1))


def _said(result: str) -> Outcome:
    return Success(msgspec.json.encode(result))


TestKept = Kept.TestCase
TestKept.settings = examples(20, steps=20)
