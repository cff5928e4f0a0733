"""What a crash of the program does not touch: its callers, its topics, the wall clock, and what its steps have done.

O1  Callers ask again, with the same idempotency key, until they have heard an answer; so does whoever resolves an
    awakeable or kills an invocation. What they have heard once they must hear again.
O2  What a step has done stays done.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from streamstate import Context, LocalClient, LocalInvocation, Service, Step, VirtualObject, Workflow
from streamstate.context import HandlerFuture
from streamstate.definitions import HandlerKind
from streamstate.engine import OutboxMessage
from streamstate.errors import InvocationPausedError, NotFoundError, TerminalError
from streamstate.journal import keyed_identity, workflow_identity
from streamstate.testing import MemoryTopics, VirtualClock
from tests.crashes.process import Event, Process, ProcessDied
from tests.crashes.witness import Witness

T = TypeVar("T")
Request = Callable[[LocalClient], Awaitable[Any]]
Script = Callable[[], Coroutine[Any, Any, None]]

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
ALWAYS = 1_000
SETTLE = 65 * SECOND  # after a script's end: longer than all pauses and sleeps that it leaves behind


class Answer(NamedTuple):
    """What a caller has heard. kind: `result`, `failed` or `paused`."""

    kind: str
    value: Any
    code: int = 0


class Effect(NamedTuple):
    """A step has done something. holder: the object that its invocation holds meanwhile, if it does."""

    invocation: str
    step: str
    holder: tuple[str, str] | None


class Plot(NamedTuple):
    """A program, and what the outside world does with it."""

    definitions: Sequence[Service | VirtualObject | Workflow]
    script: Script


class Outside:
    """See the module.

    Attributes:
        notes: what the outside world knows: the value of each step that took effect, and what a script writes down.
        answers: by the caller's label. effects: in order. delivered: messages, in order, with every repetition.
        problems: what must not be, and was seen. is_advancing: time passes.
    """

    def __init__(self, witness: Witness) -> None:
        self.witness = witness
        self.notes: dict[str, Any] = {}
        self.answers: dict[str, Answer] = {}
        self.effects: list[Effect] = []
        self.delivered: list[OutboxMessage] = []
        self.problems: list[str] = []
        self._waiting = 0
        self._operations = 0
        self.is_advancing = False
        self.topics = MemoryTopics("memory", self.now_ms)
        self._clock = VirtualClock()
        self._current: Process
        self._is_there = asyncio.Event()
        self._again: dict[str, tuple[Request, str]] = {}
        self._gates: dict[str, asyncio.Event] = {}

    @property
    def is_waiting(self) -> bool:
        """True while a caller has asked and heard nothing yet."""
        return self._waiting > 0

    # Processes come and go.

    def now(self) -> datetime:
        return self._clock.now()

    def now_ms(self) -> int:
        return self._clock.now_ms()

    def begin(self, process: Process) -> None:
        """A process starts; it cannot be asked yet."""
        self._current, self._clock = process, process.clock

    def ready(self) -> None:
        """The process can be asked."""
        self._is_there.set()

    def ended(self) -> None:
        """The process is gone; the next one may begin."""
        self._is_there.clear()
        self._current.is_alive = False
        self._current.gone.set()

    async def process(self) -> Process:
        """The process that can be asked, as soon as there is one."""
        while True:
            await self._is_there.wait()
            process = self._current
            if process.is_alive and not process.over.is_set():
                return process
            await process.gone.wait()

    async def restart(self) -> None:
        """Stop the program in order, and start it again."""
        process = await self.process()
        process.over.set()
        await process.gone.wait()

    # Time.

    async def advance(self, duration: timedelta) -> None:
        """Let time pass, over crashes, and everything that becomes due happen at its moment."""
        end = self.now() + duration
        self.is_advancing = True
        while True:
            process = await self.process()
            try:
                await process.during(process.clock.advance(end - self.now()))
            except ProcessDied:
                continue
            self.is_advancing = False
            return

    async def settle(self) -> None:
        """Wait until nothing is left to do at this moment."""
        await self.advance(timedelta())

    async def skip(self, duration: timedelta) -> None:
        """Let time pass while a step runs, and nothing can be idle."""
        until_ms = self.now_ms() + round(duration / timedelta(milliseconds=1))
        while self.now_ms() < until_ms:
            process = await self.process()
            process.clock.skip(until_ms)

    async def stir(self, condition: Callable[[], bool]) -> None:
        """Wait until it is so, while a step runs, and nothing can be idle."""
        while True:
            if condition():
                return
            await asyncio.sleep(0)

    async def over(self, duration: timedelta, *requests: Coroutine[Any, Any, object]) -> None:
        """Let callers wait while time passes."""
        async with asyncio.TaskGroup() as callers:
            for request in requests:
                callers.create_task(request)
            await self.advance(duration)

    # Callers.

    def expect(self, answer: Answer, value: Any) -> None:
        """What a caller heard must be this; the run without crash may be wrong too."""
        if answer.value != value:
            self.problems.append(f"the answer is {answer}; expected {value!r}")

    async def ask(self, label: str, request: Request, kept: str = "") -> Answer:
        """Ask until there is an answer; `kept` is the id of an invocation whose outcome is kept for another caller."""
        self._waiting += 1
        while True:
            process = await self.process()
            try:
                answer = await process.during(_answer(request, process))
                if kept and answer.kind != "paused":
                    self.problems += self.witness.answer_leaves(kept)
            except ProcessDied:
                continue
            break
        self._waiting -= 1
        earlier = self.answers.setdefault(label, answer)
        if earlier != answer:
            self.problems.append(f"O1: {label!r} heard {earlier}, and then {answer}")
        self._heard(process, label)
        if kept and answer.kind != "paused":
            self._again[label] = request, kept
        return answer

    async def call(self, label: str, handler: Any, *arg: Any, key: str | None = None, heard: str = "") -> Answer:
        """Call a handler; the label is the idempotency key, and by default the name of what is heard."""

        target = {} if key is None else {"key": key}

        def request(client: LocalClient) -> Awaitable[Any]:
            ask: Callable[..., Awaitable[Any]] = client.call
            return ask(handler, *arg, idempotency_key=label, **target)

        return await self.ask(heard or label, request, self.id_of(label, handler, key))

    async def start(self, label: str, handler: Any, *arg: Any, key: str) -> Answer:
        """Start a workflow, or find it started, and wait for its result."""

        async def request(client: LocalClient) -> Any:
            return await (await client.send(handler, *arg, key=key)).result()

        return await self.ask(label, request, workflow_identity(handler.spec.service, key))

    async def send(
        self, label: str, handler: Any, *arg: Any, key: str | None = None, delay: timedelta | None = None
    ) -> str:
        """Send to a handler, and wait for no more than that this is durable; gives the id."""

        async def request(client: LocalClient) -> str:
            send: Callable[..., Awaitable[LocalInvocation[Any]]] = client.send
            sent = await send(handler, *arg, key=key, delay=delay, idempotency_key=label)
            if self.witness.shadow.invocations.get(sent.id) is None:
                self.problems.append(f"W2: {label!r} is told that {sent.id} is accepted, and it is not durable")
            return sent.id

        answer = await self.ask(f"{label}, sent", request)
        return str(answer.value)

    async def send_once(self, label: str, handler: Any, *arg: Any, key: str) -> None:
        """Send without an idempotency key, and not again: whoever hears nothing does not know."""
        process = await self.process()
        send: Callable[..., Awaitable[object]] = process.running.client.send
        with suppress(ProcessDied):
            await process.during(_awaited(send(handler, *arg, key=key)))
            self.answers[label] = Answer("result", "accepted")
            process.happened(Event("answer", label))

    async def do(self, operation: Callable[[LocalClient], object]) -> None:
        """Do something, again and again until it is certain to be durable."""

        async def request(client: LocalClient) -> None:
            # After a crash it may be done, and what it was done to gone.
            with suppress(NotFoundError):
                operation(client)
            process = await self.process()
            await process.running.engine.durable()

        self._operations += 1
        await self.ask(f"operation {self._operations}", request)

    async def resolve(self, awakeable: str, value: Any) -> None:
        """Complete an awakeable."""
        await self.do(lambda client: client.resolve_awakeable(awakeable, value))

    async def resolve_after(self, rounds: int, awakeable: str, value: Any) -> None:
        """Complete an awakeable so many rounds of the loop from now."""
        for _ in range(rounds):
            await asyncio.sleep(0)
        await self.resolve(awakeable, value)

    async def cancel(self, invocation: str) -> None:
        """Cancel an invocation once: a second cancellation would reach what it does about the first."""

        def once(client: LocalClient) -> None:
            if not self.witness.is_cancelled(invocation):
                client.invocation(invocation).cancel()

        await self.do(once)

    def produce(self, topic: str, key: str | None, value: bytes | None) -> None:
        """Append a record to a topic."""
        self.topics.append(topic, None if key is None else key.encode(), value)

    def forget(self, label: str) -> None:
        """This answer need not be heard again: its retention passes."""
        self._again.pop(label, None)

    async def ask_again(self) -> None:
        """O1: everyone who has heard how something ended asks again."""
        for label, (request, kept) in list(self._again.items()):
            await self.ask(label, request, kept)

    def id_of(self, label: str, handler: Any, key: str | None = None) -> str:
        """The id of an invocation that was called or sent with this label."""
        spec = handler.spec
        if spec.kind is HandlerKind.WORKFLOW:
            return workflow_identity(spec.service, key or "")
        return keyed_identity(spec.service, spec.name, key or "", label)

    def _heard(self, process: Process, label: str) -> None:
        try:
            process.happened(Event("answer", label))
        except ProcessDied:
            # Heard all the same: the process died behind its last word.
            return

    # Steps.

    def act(
        self,
        ctx: Context,
        step: str | Step,
        value: Any = None,
        *,
        fails: int = 0,
        refusal: str = "",
        gate: str = "",
    ) -> HandlerFuture[Any]:
        """Run a step that has an effect outside.

        Args:
            fails: so many attempts have their effect and fail then, over all processes.
            refusal: it has its effect and raises a TerminalError of this text.
            gate: it waits for this gate before its effect.
        """
        process, invocation = self._current, ctx.invocation_id
        name = step if isinstance(step, str) else step.name

        async def action() -> Any:
            if gate:
                await self.gate(gate).wait()
            await asyncio.sleep(0)
            self._take_effect(process, invocation, name, value)
            await asyncio.sleep(0)
            if refusal:
                raise TerminalError(refusal)
            if self._count(invocation, name) <= fails:
                raise ConnectionError(f"{name} does not answer")
            return value

        return ctx.run(step, action)

    def act_in_thread(self, ctx: Context, step: str, value: Any = None) -> HandlerFuture[Any]:
        """Run a step by a sync action."""
        process, invocation = self._current, ctx.invocation_id

        def action() -> Any:
            self._take_effect(process, invocation, step, value)
            return value

        return ctx.run(step, action)

    def _take_effect(self, process: Process, invocation: str, step: str, value: Any) -> None:
        """O2: something was done that cannot be undone."""
        process.check()
        self.problems += self.witness.step_begins(invocation, step)
        self.effects.append(Effect(invocation, step, self.witness.lane_of(invocation)))
        self.notes[step] = value
        process.happened(Event("step", f"{step} of {invocation}"))

    def _count(self, invocation: str, step: str) -> int:
        """How often this step took effect."""
        return sum(each[:2] == (invocation, step) for each in self.effects)

    def gate(self, name: str) -> asyncio.Event:
        """Something outside that steps wait for."""
        return self._gates.setdefault(name, asyncio.Event())


async def _answer(request: Request, process: Process) -> Answer:
    try:
        return Answer("result", await request(process.running.client))
    except TerminalError as error:
        return Answer("failed", error.message, error.code)
    except InvocationPausedError as error:
        return Answer("paused", str(error))


async def _awaited(work: Awaitable[T]) -> T:
    return await work
