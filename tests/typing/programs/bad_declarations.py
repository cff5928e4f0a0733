"""Mistakes in declarations: each marked line is an error, and no other. This file is checked, never run."""

from __future__ import annotations

from streamstate.context import (
    Context,
    ObjectContext,
    ObjectSharedContext,
    WorkflowContext,
    WorkflowSharedContext,
)
from streamstate.definitions import (
    DeadLetter,
    RetryPolicy,
    Service,
    Step,
    VirtualObject,
    Workflow,
    freeze,
    subscribe,
)

greeter = Service("Greeter")
drivers = VirtualObject("Driver")
signup = Workflow("SignUp")


@drivers.handler  # type: ignore[type-var]  # expected: an exclusive handler takes ObjectContext
async def takes_context(ctx: Context) -> None: ...


@drivers.handler  # type: ignore[arg-type, type-var]  # expected: an exclusive handler takes ObjectContext
async def takes_shared(ctx: ObjectSharedContext, payload: int) -> None: ...


@drivers.handler(name="other")  # type: ignore[type-var]  # expected: an exclusive handler takes ObjectContext
async def takes_workflow(ctx: WorkflowContext) -> None: ...


@drivers.shared  # type: ignore[type-var]  # expected: a shared handler takes ObjectSharedContext
async def shared_takes_workflow(ctx: WorkflowSharedContext) -> None: ...


@signup.main  # type: ignore[type-var]  # expected: a main handler takes WorkflowContext
async def main_takes_shared(ctx: WorkflowSharedContext) -> None: ...


@signup.shared  # type: ignore[type-var]  # expected: a shared handler takes WorkflowSharedContext
async def workflow_shared_takes_object(ctx: ObjectContext) -> None: ...


@greeter.handler  # type: ignore[type-var]  # expected: a handler takes a context
async def takes_no_context(ctx: int) -> None: ...


@greeter.handler  # type: ignore[arg-type]  # expected: a handler is async
def not_async(ctx: Context) -> None: ...


@greeter.handler  # type: ignore[arg-type]  # expected: a handler takes one payload at most
async def too_many(ctx: Context, a: int, b: int) -> None: ...


@greeter.handler(timeout=5)  # type: ignore[call-overload, untyped-decorator]  # expected: there is no such option
async def unknown_option(ctx: Context) -> None: ...


@subscribe("a")  # type: ignore[type-var]  # expected: subscribe stands outside
async def not_a_handler(ctx: Context) -> None: ...


RetryPolicy(initial=5)  # type: ignore[arg-type]  # expected: a duration is a timedelta
Step("charge", retry=5)  # type: ignore[arg-type]  # expected: a policy
subscribe("a", on_exhausted=DeadLetter("b"))  # type: ignore[arg-type]  # expected: not in this version
subscribe("a", key=lambda record: record.offset)  # type: ignore[arg-type, return-value]  # expected: a key is text
freeze("app", [takes_context])  # type: ignore[list-item]  # expected: definitions, not handlers
