"""Handlers that use all of asyncio, each with what comes from outside. Run as a program, it writes their journals."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from typing import Any, TypeVar

import msgspec

from streamstate.context import ObjectContext, WorkflowContext
from streamstate.definitions import ServiceKind
from streamstate.errors import CancelledError, TerminalError
from streamstate.journal import Success
from tests.context.driver import Program, Script, Tell, run_live

T = TypeVar("T")

CASES: dict[str, tuple[Program, Script]] = {}


def case(program: Program, **script: Any) -> None:
    CASES[program.__name__] = (program, Script(**script))


def ms(count: int) -> timedelta:
    return timedelta(milliseconds=count)


def echo(value: T) -> T:
    return value


def fail(message: str) -> None:
    raise TerminalError(message)


async def step(ctx: ObjectContext, name: str) -> str:
    return await ctx.run(name, echo, name)


async def gathered(ctx: ObjectContext, tell: Tell) -> list[str]:
    return list(await asyncio.gather(step(ctx, "a"), ctx.run("b", echo, "b"), step(ctx, "c")))


case(gathered, durations={"a": 30, "b": 10, "c": 20})


async def gathered_with_exceptions(ctx: ObjectContext, tell: Tell) -> list[str]:
    results = await asyncio.gather(ctx.run("a", fail, "no"), step(ctx, "b"), return_exceptions=True)
    return [str(result) for result in results]


case(gathered_with_exceptions, durations={"a": 5})


async def gathered_of_gathered(ctx: ObjectContext, tell: Tell) -> Any:
    return await asyncio.gather(asyncio.gather(step(ctx, "a"), step(ctx, "b")), asyncio.gather(step(ctx, "c")))


case(gathered_of_gathered, durations={"a": 9, "b": 3, "c": 6})


async def waited_for_the_first(ctx: ObjectContext, tell: Tell) -> list[str]:
    steps = {name: ctx.run(name, echo, name) for name in "abc"}
    pending = set(steps.values())
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        tell([future.result() for future in done])
    return [future.result() for future in steps.values()]


case(waited_for_the_first, durations={"a": 30, "b": 10, "c": 20})


async def waited_for_the_first_exception(ctx: ObjectContext, tell: Tell) -> list[int]:
    futures: set[asyncio.Future[Any]] = {ctx.run("a", echo, 1), ctx.run("b", fail, "no"), ctx.run("c", echo, 3)}
    done, pending = await asyncio.wait(futures, return_when=asyncio.FIRST_EXCEPTION)
    return [len(done), len(pending), sum(future.exception() is not None for future in done)]


case(waited_for_the_first_exception, durations={"a": 10, "b": 20, "c": 30})


async def waited_for_all(ctx: ObjectContext, tell: Tell) -> list[str]:
    # Twenty: more than a small set has places, so that the order of the set is not that of the numbers.
    tasks = {asyncio.create_task(step(ctx, f"s{n}")) for n in range(20)}
    done, pending = await asyncio.wait(tasks)
    assert not pending
    return [task.result() for task in done]


case(waited_for_all, durations={f"s{n}": 1 + n * 7 % 20 for n in range(20)})


async def waited_with_a_timeout(ctx: ObjectContext, tell: Tell) -> list[int]:
    futures = {ctx.run("quick", echo, 1), ctx.run("slow", echo, 2)}
    done, pending = await asyncio.wait(futures, timeout=0.05)
    tell([len(done), len(pending)])
    done, pending = await asyncio.wait(futures, timeout=10)
    return [len(done), len(pending)]


case(waited_with_a_timeout, durations={"quick": 20, "slow": 200})


async def as_completed_of_coroutines(ctx: ObjectContext, tell: Tell) -> list[str]:
    return [await each for each in asyncio.as_completed([step(ctx, f"s{n}") for n in range(12)])]


case(as_completed_of_coroutines, durations={f"s{n}": 5 for n in range(12)})


async def as_completed_of_futures(ctx: ObjectContext, tell: Tell) -> list[str]:
    return [await each for each in asyncio.as_completed([ctx.run(name, echo, name) for name in "abc"])]


case(as_completed_of_futures, durations={"a": 30, "b": 10, "c": 20})


async def as_completed_of_futures_that_are_done(ctx: ObjectContext, tell: Tell) -> list[Any]:
    futures = {ctx.get(f"k{n}") for n in range(12)}
    return [await each for each in asyncio.as_completed(futures)]


case(as_completed_of_futures_that_are_done, values={f"k{n}": n for n in range(12)})


async def as_completed_with_a_timeout(ctx: ObjectContext, tell: Tell) -> str:
    try:
        for each in asyncio.as_completed([step(ctx, "a"), step(ctx, "b")], timeout=0.02):
            tell(await each)
    except TimeoutError:
        return "late"
    return "in time"


case(as_completed_with_a_timeout, durations={"a": 10, "b": 50})


async def done_in_the_order_of_a_set_of_gathers(ctx: ObjectContext, tell: Tell) -> list[str]:
    await step(ctx, "before")
    pairs = {asyncio.gather(step(ctx, f"s{n}")) for n in range(8)}
    done, _ = await asyncio.wait(pairs)
    return [pair.result()[0] for pair in done]


case(done_in_the_order_of_a_set_of_gathers)


async def as_completed_of_a_mixture(ctx: ObjectContext, tell: Tell) -> list[Any]:
    mixed = [*(ctx.get(f"k{n}") for n in range(6)), *(step(ctx, f"s{n}") for n in range(6))]
    return [await each for each in asyncio.as_completed(mixed)]


case(as_completed_of_a_mixture, values={f"k{n}": n for n in range(6)})


async def group(ctx: ObjectContext, tell: Tell) -> list[str]:
    async with asyncio.TaskGroup() as tasks:
        made = [tasks.create_task(step(ctx, name)) for name in "abc"]
    return [task.result() for task in made]


case(group, durations={"a": 3, "b": 2, "c": 1})


async def reserve(ctx: ObjectContext, tell: Tell, seat: str) -> None:
    try:
        await ctx.run(f"reserve {seat}", echo, seat)
        await asyncio.sleep(10)
    finally:
        tell(f"undo {seat}")
        await ctx.run(f"undo {seat}", echo, seat)


async def refuse(ctx: ObjectContext) -> None:
    await ctx.run("refuse", fail, "sold out")


async def group_with_a_failure(ctx: ObjectContext, tell: Tell) -> None:
    async with asyncio.TaskGroup() as tasks:
        for n in range(20):
            tasks.create_task(reserve(ctx, tell, f"seat{n}"))
        tasks.create_task(refuse(ctx))


case(group_with_a_failure, durations={"refuse": 50})


async def group_with_a_failing_body(ctx: ObjectContext, tell: Tell) -> str:
    try:
        async with asyncio.TaskGroup() as tasks:
            for n in range(3):
                tasks.create_task(reserve(ctx, tell, f"seat{n}"))
            await asyncio.sleep(0.1)
            raise TerminalError("changed my mind")
    except* TerminalError as caught:
        tell(str(caught.exceptions[0]))
    return "undone"


case(group_with_a_failing_body)


async def timed_out(ctx: ObjectContext, tell: Tell) -> str:
    try:
        async with asyncio.timeout(0.5):
            await ctx.run("slow", echo, 1)
    except TimeoutError:
        tell("late")
    return await step(ctx, "after")


case(timed_out, durations={"slow": 900})


async def in_time(ctx: ObjectContext, tell: Tell) -> str:
    async with asyncio.timeout(0.5) as scope:
        await step(ctx, "quick")
        scope.reschedule(asyncio.get_running_loop().time() + 3)
        await step(ctx, "slow")
    tell(scope.expired())
    return "in time"


case(in_time, durations={"quick": 10, "slow": 900})


async def timed_out_in_a_task(ctx: ObjectContext, tell: Tell) -> str:
    async def child() -> str:
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + 0.25):
                await asyncio.Event().wait()
        except TimeoutError:
            return "late"
        return "never"

    return await asyncio.create_task(child())


case(timed_out_in_a_task)


async def nested_timeouts(ctx: ObjectContext, tell: Tell) -> None:
    try:
        async with asyncio.timeout(1):
            try:
                async with asyncio.timeout(5):
                    await ctx.sleep(ms(60_000))
            except TimeoutError:
                tell("inner")
    except TimeoutError:
        tell("outer")


case(nested_timeouts)


async def waited_for_with_a_limit(ctx: ObjectContext, tell: Tell) -> str:
    tell(await asyncio.wait_for(step(ctx, "quick"), 1))
    try:
        return await asyncio.wait_for(step(ctx, "slow"), 1)
    except TimeoutError:
        return "late"


case(waited_for_with_a_limit, durations={"slow": 5_000})


async def slept(ctx: ObjectContext, tell: Tell) -> None:
    async def nap(seconds: float) -> None:
        await asyncio.sleep(seconds)
        tell(seconds)

    await asyncio.gather(nap(0.3), nap(0.1), nap(0.2), nap(0))
    await ctx.sleep(ms(1_500))
    tell("end")


case(slept)


async def shielded(ctx: ObjectContext, tell: Tell) -> str:
    inner = asyncio.create_task(step(ctx, "slow"))
    try:
        async with asyncio.timeout(0.01):
            await asyncio.shield(inner)
    except TimeoutError:
        tell("late")
    return await inner


case(shielded, durations={"slow": 100})


async def synchronized(ctx: ObjectContext, tell: Tell) -> None:
    opened, lock, places = asyncio.Event(), asyncio.Lock(), asyncio.Semaphore(2)
    condition = asyncio.Condition()
    ready: list[str] = []

    async def visit(name: str) -> None:
        await opened.wait()
        async with places:
            await step(ctx, f"enter {name}")
            async with lock:
                await step(ctx, f"pay {name}")
                tell(name)
        async with condition:
            ready.append(name)
            condition.notify_all()

    async with asyncio.TaskGroup() as tasks:
        for name in "abcde":
            tasks.create_task(visit(name))
        await step(ctx, "open")
        opened.set()
        async with condition:
            await condition.wait_for(lambda: len(ready) == 5)
    tell(ready)


case(synchronized, durations={"enter a": 9, "enter b": 2, "enter c": 4})


async def queued(ctx: ObjectContext, tell: Tell) -> list[str]:
    queue: asyncio.Queue[str] = asyncio.Queue(maxsize=2)
    taken: list[str] = []

    async def consume(consumer: str) -> None:
        while True:
            item = await queue.get()
            taken.append(f"{consumer} {await step(ctx, item)}")
            queue.task_done()

    consumers = [asyncio.create_task(consume(name)) for name in "xyz"]
    for n in range(7):
        await queue.put(f"item{n}")
    await queue.join()
    for consumer in consumers:
        consumer.cancel()
    await asyncio.gather(*consumers, return_exceptions=True)
    return taken


case(queued, durations={"item0": 20, "item3": 7})


async def cancelled_with_compensations(ctx: ObjectContext, tell: Tell) -> None:
    async def child(name: str) -> None:
        try:
            await ctx.sleep(ms(10_000))
        except CancelledError:
            tell(f"told {name}")
            await step(ctx, f"undo {name}")
            raise

    try:
        async with asyncio.TaskGroup() as tasks:
            for n in range(12):
                tasks.create_task(child(f"c{n}"))
    except* CancelledError:
        tell("root")
        await step(ctx, "undo all")
        raise


case(cancelled_with_compensations, cancels=[100])


async def promised(ctx: WorkflowContext, tell: Tell) -> list[str | None]:
    email = ctx.promise("email", str)
    tell(await email.peek())
    phone = ctx.promise("phone", str).wait()
    first, _ = await asyncio.wait({phone, email.wait()}, return_when=asyncio.FIRST_COMPLETED)
    return [each.result() for each in first]


promised.service_kind = ServiceKind.WORKFLOW  # type: ignore[attr-defined]  # the driver looks for it
case(promised, answers={"email": Success(b'"e"'), "phone": Success(b'"p"')}, durations={"phone": 9})


async def awakened_and_signalled(ctx: ObjectContext, tell: Tell) -> list[str]:
    awakeable = ctx.awakeable(str)
    tell(awakeable.id)
    early = await ctx.signal("early", str)
    return [early, *await asyncio.gather(awakeable, ctx.signal("late", str))]


case(
    awakened_and_signalled,
    answers={"awakeable": Success(b'"woken"')},
    signals=[(5, "early", "e"), (3, "late", "l")],
)


async def random_and_named(ctx: ObjectContext, tell: Tell) -> list[str]:
    async def child() -> str:
        current = asyncio.current_task()
        assert current is not None
        await step(ctx, f"step of {current.get_name()}")
        return str(ctx.uuid())

    return [*await asyncio.gather(child(), child()), str(ctx.random.random()), str(await ctx.time())]


case(random_and_named)


def journals() -> bytes:
    """All journals and all that the handlers saw, as bytes."""
    seen = {}
    for name, (program, script) in CASES.items():
        run = run_live(program, script)
        # Sites name files, and a failure's detail its stack.
        log = [msgspec.structs.replace(e, site="") if hasattr(e, "site") else e for e in run.log]
        seen[name] = [[repr(entry).partition("detail=")[0] for entry in log], repr(run.told), run.conclusion]
    return msgspec.json.encode(seen)


if __name__ == "__main__":
    sys.stdout.buffer.write(journals())


async def linger(ctx: ObjectContext, tell: Tell, name: str) -> None:
    try:
        await ctx.sleep(ms(60_000))
    finally:
        tell(f"close {name}")
        await step(ctx, f"close {name}")
        tell(f"closed {name}")
