"""Does what a script says, with the verbs of the context, and keeps the ledger of `handlers`."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast

import msgspec

from streamstate import (
    CancelledError,
    Context,
    ObjectContext,
    ObjectSharedContext,
    RetryableError,
    RetryPolicy,
    StateKey,
    Step,
    TerminalError,
    WorkflowContext,
    WorkflowSharedContext,
)
from streamstate.context import failure_of
from tests.simulation.plans import (
    Add,
    Awake,
    Call,
    Fail,
    Look,
    Op,
    Promise,
    Publish,
    Run,
    Script,
    Send,
    Signal,
    Sleep,
    Terminal,
    Timeout,
    Together,
    Try,
)
from tests.simulation.witness import current

LEDGER: StateKey[list[str]] = StateKey("ledger")

ATTACH_S = 2.0  # a send that nobody ends would hold its sender for ever
STEP_PAUSE = timedelta(milliseconds=30)

Ident = tuple[str, str] | None


class Letter(msgspec.Struct, frozen=True):
    """A completion on its way: of an awakeable, or, with a name, a signal."""

    to: str
    value: str
    signal: str = ""


def checksum(ledger: list[str]) -> int:
    return zlib.crc32("\n".join(ledger).encode())


class Interpreter:
    """One run, or replay, of one script."""

    def __init__(self, ctx: Context, script: Script, targets: Mapping[str, Any]) -> None:
        self._ctx = ctx
        self._tag = script.tag
        self._ops = script.ops
        self._targets = targets
        self._witness = current()
        self._writes = isinstance(ctx, (ObjectContext, WorkflowContext))
        self._ident: Ident = None
        if self._writes:
            session = ctx._session
            self._ident = (session.setting.spec.service, session.key)

    # The three ways to run.

    async def perform(self) -> str:
        """An exclusive handler: its result names the line of its end in the ledger."""
        self._witness.begin(self._ident, self._tag)
        await self._write(f"b {self._tag}")
        try:
            await self._do(self._ops)
        except GeneratorExit:
            raise
        except BaseException as error:
            if failure_of(error) is not None:
                self._check_joined(error)
                await self._write(f"f {self._tag}")
            raise
        return f"{self._tag}@{await self._write(f'e {self._tag}')}"

    async def observe(self) -> str:
        """A shared handler: its result tells how much of the ledger it has seen."""
        self._witness.begin(None, self._tag)
        ctx = cast("ObjectSharedContext | WorkflowSharedContext", self._ctx)
        before = await ctx.get(LEDGER) or []
        await self._do(self._ops)
        ledger = await ctx.get(LEDGER) or []
        # A workflow may be forgotten under those who still speak to it.
        if ledger[: len(before)] != before and isinstance(ctx, ObjectSharedContext):
            self._witness.violate("I5", f"{self._tag} read {before}, and later {ledger}")
        return f"{self._tag}@{len(ledger)}:{checksum(ledger)}"

    async def work(self) -> str:
        """A handler of a service."""
        self._witness.begin(None, self._tag)
        await self._do(self._ops)
        return f"{self._tag}@"

    # The ledger.

    async def _write(self, line: str) -> int:
        """Append a line; gives its place. Nothing is awaited in between that takes time."""
        if not self._writes:
            return 0
        ctx = cast("ObjectContext", self._ctx)
        ledger = await ctx.get(LEDGER) or []
        ctx.set(LEDGER, [*ledger, line])
        return len(ledger)

    def _check_joined(self, error: BaseException) -> None:
        """A compensation must not overtake what it undoes: no action runs any more when a cancellation is raised."""
        witness = self._witness
        if self._ident is None or not isinstance(error, CancelledError) or witness.struck.get(self._tag) != "cancel":
            return
        # One of its calls may have been cancelled on its own, and tell it so at any time.
        is_its_own = not any(tag.startswith(f"{self._tag}.") for tag in witness.struck)
        if is_its_own and witness.active[self._ident][self._tag]:
            witness.violate("§2", f"{self._tag} was told of its cancellation while its action runs")

    @property
    def _is_new(self) -> bool:
        """Whether the next command is not a replayed one."""
        session = self._ctx._session
        return session.notes is not None or session.machine.is_next_new()

    # The verbs.

    async def _do(self, ops: tuple[Op, ...]) -> None:
        for op in ops:
            await self._one(op)

    async def _one(self, op: Op) -> None:
        match op:
            case Run():
                await self._run(op)
            case Call() | Send():
                await self._other(op)
            case Awake() | Signal() | Promise():
                await self._wait(op)
            case Together() | Timeout() | Try():
                await self._nested(op)
            case Fail():
                if self._witness.fail_again(self._tag, op.at, op.times):
                    raise RetryableError(f"planned failure of {self._tag} at {op.at}")
            case Terminal():
                raise TerminalError(f"planned end of {self._tag}", code=418)
            case _:
                await self._simple(op)

    async def _simple(self, op: Add | Sleep | Publish | Look) -> None:
        ctx = self._ctx
        match op:
            case Add():
                if self._writes:
                    await self._add(cast("ObjectContext", ctx), op)
            case Sleep():
                is_new = self._is_new
                if is_new:
                    self._witness.start_timer(self._tag, op.at)
                await (asyncio.sleep(op.ms / 1000) if op.plain else ctx.sleep(timedelta(milliseconds=op.ms)))
                if not ctx._session.is_replaying:
                    self._witness.end_timer(self._tag, op.at, op.ms)
            case Publish():
                await self._write(f"p {self._tag}/{op.at}")
                ctx.publish("out", f"{self._tag}/{op.at}", key=op.key)
            case Look():
                seen: list[object] = [(await ctx.time()).isoformat(), ctx.random.random()]
                if isinstance(ctx, ObjectContext):
                    seen.extend(await ctx.state_keys())
                await self._write(f"r {self._tag}/{op.at} {seen}")

    async def _add(self, ctx: ObjectContext, op: Add) -> None:
        # First both reads, at which a turn may be cut, then both writes: they are of one turn.
        count, ledger = await ctx.get(op.name) or 0, await ctx.get(LEDGER) or []
        ctx.set(op.name, count + op.n)
        ctx.set(LEDGER, [*ledger, f"w {self._tag}/{op.at} {op.name} {op.n}"])

    async def _run(self, op: Run) -> None:
        policy = RetryPolicy(initial=STEP_PAUSE, attempts_max=op.attempts) if op.attempts else None
        step = Step(op.at, retry=policy)
        # A step is awaited later, or never: the engine joins it.
        if op.in_thread:
            future = self._ctx.run(step, act_in_thread, self._ident, self._tag, op)
        else:
            future = self._ctx.run(step, act, self._ident, self._tag, op)
        if not op.joined:
            return
        value = await future
        self._witness.check_result(self._tag, op.at, value)
        await self._write(f"r {self._tag}/{op.at} {value}")

    async def _other(self, op: Call | Send) -> None:
        ctx, script = self._ctx, op.script
        handler = self._targets[op.to]
        key: Any = {} if op.to == "work" else {"key": op.key}
        if isinstance(op, Call):
            await self._write(f"c {self._tag}/{op.at} {script.tag}")
            value = await ctx.call(handler, script, idempotency_key=op.idem, **key)
            self._check_answer(script.tag, value)
            await self._write(f"r {self._tag}/{op.at} {value}")
            return
        await self._write(f"s {self._tag}/{op.at} {script.tag}")
        if self._is_new and op.delay_ms is not None:
            self._witness.delay(script.tag, op.delay_ms, op.idem is not None)
        delay = None if op.delay_ms is None else timedelta(milliseconds=op.delay_ms)
        sent = ctx.send(handler, script, delay=delay, idempotency_key=op.idem, **key)
        if op.to == "main":
            return  # a second run of a workflow key is the first one, whoever started that
        if op.then == "attach":
            try:
                async with asyncio.timeout(ATTACH_S):
                    self._check_answer(script.tag, await sent.attach())
            except (TimeoutError, TerminalError) as error:
                if isinstance(error, CancelledError):
                    raise
        elif op.then == "cancel":
            await ctx.sleep(timedelta(milliseconds=50))
            self._witness.struck.setdefault(script.tag, "cancel")
            sent.cancel()

    def _check_answer(self, tag: str, value: str | None) -> None:
        """I2: what a call gave is the result of that very invocation."""
        if value is not None and not value.startswith(f"{tag}@"):
            self._witness.violate("I2", f"{self._tag} called {tag} and got {value!r}")

    async def _wait(self, op: Awake | Signal | Promise) -> None:
        ctx, value = self._ctx, f"{self._tag}/{op.at}!"
        delay = timedelta(milliseconds=op.ms) if not isinstance(op, Promise) else None
        deliver = self._targets["deliver"]
        if isinstance(op, Promise):
            await self._promise(op)
            return
        if isinstance(op, Signal):
            ctx.send(deliver, Letter(ctx.invocation_id, value, op.at), delay=delay)
            got = await ctx.signal(op.at, str)
        elif op.outside:
            awakeable = ctx.awakeable(str)
            await ctx.run(f"{op.at}!", hand_out, awakeable.id, value, op.ms)
            got = await awakeable
        else:
            awakeable = ctx.awakeable(str)
            ctx.send(deliver, Letter(awakeable.id, value), delay=delay)
            got = await awakeable
        if got != value:
            self._witness.violate("I2", f"{self._tag} at {op.at} waited for {value!r} and got {got!r}")
        await self._write(f"r {self._tag}/{op.at} {got}")

    async def _promise(self, op: Promise) -> None:
        ctx = self._ctx
        if not isinstance(ctx, (WorkflowContext, WorkflowSharedContext)):
            return
        promise = ctx.promise(op.name, str)
        if op.how == "resolve":
            promise.resolve(f"{self._tag}/{op.at}")
        elif op.how == "reject":
            promise.reject(f"{self._tag}/{op.at}")
        elif op.how == "peek":
            await promise.peek()
        else:
            await self._write(f"q {op.name} {await promise}")

    async def _nested(self, op: Together | Timeout | Try) -> None:
        match op:
            case Together():
                await self._together(op)
            case Timeout():
                if self._is_new:
                    self._witness.start_timer(self._tag, op.at)
                timeout = asyncio.timeout(op.ms / 1000)
                try:
                    async with timeout:
                        await self._do(op.body)
                except TimeoutError:
                    if not timeout.expired():
                        raise
                    self._witness.count("timeouts")
                    if not self._ctx._session.is_replaying:
                        self._witness.end_timer(self._tag, op.at, op.ms)
                    await self._write(f"r {self._tag}/{op.at} timeout")
            case Try():
                try:
                    await self._do(op.body)
                except TerminalError as error:
                    self._check_joined(error)
                    await self._write(f"r {self._tag}/{op.at} failed {error.code}")

    async def _together(self, op: Together) -> None:
        if op.how == "gather":
            await asyncio.gather(*(self._do(branch) for branch in op.branches))
        elif op.how == "group":
            async with asyncio.TaskGroup() as group:
                for branch in op.branches:
                    group.create_task(self._do(branch))
        else:
            tasks = [asyncio.create_task(self._do(branch)) for branch in op.branches]
            done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in left:
                task.cancel()
            for task in done:
                await task


async def act(ident: Ident, tag: str, op: Run) -> str:
    """The action of a step: takes its time, fails as often as it should."""
    witness = current()
    number = witness.start_action(ident, tag, op.at)
    try:
        await asyncio.sleep(op.ms / 1000)
        return _outcome(tag, op, number)
    finally:
        witness.end_action(ident, tag)


def act_in_thread(ident: Ident, tag: str, op: Run) -> str:
    """The same, as a sync function; the pool of the simulation takes the time."""
    witness = current()
    number = witness.start_action(ident, tag, op.at)
    try:
        return _outcome(tag, op, number)
    finally:
        witness.end_action(ident, tag)


def _outcome(tag: str, op: Run, number: int) -> str:
    if current().fail_again(tag, op.at, op.fails):
        raise ConnectionError(f"planned failure of the step of {tag} at {op.at}")
    if op.how == "terminal":
        raise TerminalError(f"planned end of the step of {tag} at {op.at}", code=422)
    return f"{tag}/{op.at}#{number}"


async def hand_out(awakeable: str, value: str, ms: int) -> None:
    """Tells the outside world of an awakeable, which completes it later."""
    current().hand_out(awakeable, value, ms)
