"""The program under simulation: a few handlers that do what their script says.

Every exclusive handler keeps a ledger in its object's state: a line for its beginning and its end, and for each effect
one in the same turn. So what an invocation has done is in the state, whole or not at all, in the order of the key.

    b tag                 begins              e tag                 ends well
    f tag                 ends in a terminal failure
    w tag/at name n       added n to a counter
    c tag/at child        calls               r tag/at value        what a call, step or wait gave
    s tag/at child        sends               p tag/at              publishes
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from streamstate import (
    Context,
    ObjectContext,
    ObjectSharedContext,
    Retention,
    RetryPolicy,
    Service,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
    subscribe,
)
from streamstate.definitions import freeze
from tests.simulation.interpreter import Interpreter, Letter
from tests.simulation.plans import Script

RETENTION = timedelta(minutes=10)
_KEEP = Retention(idempotency=RETENTION, workflow=RETENTION)
_PAUSES = RetryPolicy(initial=timedelta(milliseconds=80), interval_max=timedelta(seconds=2), attempts_max=4)
_PATIENT = RetryPolicy(initial=timedelta(milliseconds=50), interval_max=timedelta(seconds=1), attempts_max=None)

item = VirtualObject("Item", retry=_PAUSES, retention=_KEEP)
account = VirtualObject("Account", retry=_PATIENT, retention=_KEEP)
worker = Service("Worker", retry=_PATIENT, retention=_KEEP)
post = Service("Post", retention=_KEEP)
flow = Workflow("Flow", retry=_PATIENT, retention=_KEEP)


@subscribe("items", name="items")
@item.handler
async def change(ctx: ObjectContext, script: Script) -> None:
    await Interpreter(ctx, script, TARGETS).perform()


@item.handler
async def ask(ctx: ObjectContext, script: Script) -> str:
    return await Interpreter(ctx, script, TARGETS).perform()


@item.shared
async def look(ctx: ObjectSharedContext, script: Script) -> str:
    return await Interpreter(ctx, script, TARGETS).observe()


@account.handler
async def book(ctx: ObjectContext, script: Script) -> str:
    return await Interpreter(ctx, script, TARGETS).perform()


@subscribe("jobs", name="jobs")
@worker.handler
async def work(ctx: Context, script: Script) -> str:
    return await Interpreter(ctx, script, TARGETS).work()


@flow.main
async def main(ctx: WorkflowContext, script: Script) -> str:
    return await Interpreter(ctx, script, TARGETS).perform()


@flow.shared
async def tell(ctx: WorkflowSharedContext, script: Script) -> str:
    return await Interpreter(ctx, script, TARGETS).observe()


@post.handler
async def deliver(ctx: Context, letter: Letter) -> None:
    if letter.signal:
        ctx.invocation(letter.to).signal(letter.signal).resolve(letter.value)
    else:
        ctx.resolve_awakeable(letter.to, letter.value)


TARGETS: dict[str, Any] = {
    "change": change,
    "ask": ask,
    "look": look,
    "book": book,
    "work": work,
    "main": main,
    "tell": tell,
    "deliver": deliver,
}

# Those that hold their key, and so keep a ledger.
EXCLUSIVE = frozenset({"change", "ask", "book", "main"})
SERVICES = {name: handler.spec.service for name, handler in TARGETS.items()}
TOPICS = {"change": "items", "work": "jobs"}

PROGRAM = freeze("simulation", [item, account, worker, post, flow])
