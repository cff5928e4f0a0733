"""Orders: one virtual object that decides, and one workflow that gets the food to the customer.

`Order` takes events of the topic `orders` and is the only one that changes an order's status. `Fulfilment` pays, asks
the restaurant, and sends a driver; whatever ends it early is compensated in reverse.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

from food_ordering import deliveries, topics
from food_ordering.bank import bank
from food_ordering.deliveries import Delivery
from food_ordering.model import (
    OrderCancelled,
    OrderEvent,
    OrderPlaced,
    OrderStatus,
    PrepareOrder,
    RestaurantAnswer,
    StatusChange,
    StopPreparing,
)
from streamstate import (
    CancelledError,
    Context,
    ObjectContext,
    ObjectSharedContext,
    Service,
    StateKey,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
    subscribe,
)

T = TypeVar("T")
Compensation: TypeAlias = Callable[[], Awaitable[object]]

ORDER = StateKey[OrderPlaced]("order")
STATUS = StateKey[OrderStatus]("status")

BEFORE_PAYMENT = (OrderStatus.CREATED, OrderStatus.SCHEDULED)
BEFORE_DELIVERY = (OrderStatus.PAYING, OrderStatus.IN_PREPARATION, OrderStatus.WAITING_FOR_DRIVER)

order = VirtualObject("Order")  # key: order id
fulfilment = Workflow("Fulfilment")  # key: order id
restaurant_desk = Service("RestaurantDesk")


@subscribe(topics.ORDERS)
@order.handler
async def received(ctx: ObjectContext, event: OrderEvent) -> None:
    """The customer has placed this order, or does not want it any more."""
    status = await ctx.get(STATUS)
    match event:
        case OrderPlaced() if status is None:
            ctx.set(ORDER, event)
            _change(ctx, OrderStatus.CREATED)
            if event.deliver_in:
                _change(ctx, OrderStatus.SCHEDULED)
            ctx.send(begin, key=ctx.key, delay=event.deliver_in)
        case OrderCancelled() if status in BEFORE_PAYMENT:
            _change(ctx, OrderStatus.CANCELLED, "cancelled by the customer")
        case OrderCancelled() if status in BEFORE_DELIVERY:
            ctx.send(cancel, key=ctx.key)
        case _:
            ctx.log.info("%s comes too late: the order is %s", type(event).__name__, status)


@order.handler
async def begin(ctx: ObjectContext) -> None:
    """The time has come to prepare the order, unless it was cancelled meanwhile."""
    placed = await ctx.get(ORDER)
    if placed is not None and await ctx.get(STATUS) is not OrderStatus.CANCELLED:
        _change(ctx, OrderStatus.PAYING)
        ctx.send(fulfil, placed, key=ctx.key)


@order.handler
async def advance(ctx: ObjectContext, change: StatusChange) -> None:
    """The fulfilment has come further."""
    _change(ctx, change.status, change.reason)


@order.shared
async def status(ctx: ObjectSharedContext) -> OrderStatus | None:
    """Where the order is; None if there is no such order."""
    return await ctx.get(STATUS)


def _change(ctx: ObjectContext, status: OrderStatus, reason: str = "") -> None:
    ctx.set(STATUS, status)
    ctx.publish(topics.ORDER_STATUS, StatusChange(status, reason), key=ctx.key)


@fulfilment.main
async def fulfil(ctx: WorkflowContext, placed: OrderPlaced) -> OrderStatus:
    """Get the food to the customer, or undo what was done for it."""
    undo: list[Compensation] = []
    try:
        await pay(ctx, placed, undo)
        await prepare(ctx, placed, undo)
        await deliver(ctx, placed, undo)
    except TerminalError as reason:
        for compensate in reversed(undo):
            await compensate()
        outcome = OrderStatus.CANCELLED if isinstance(reason, CancelledError) else OrderStatus.REJECTED
        await _report(ctx, outcome, reason.message)
        return outcome
    await _report(ctx, OrderStatus.DELIVERED)
    return OrderStatus.DELIVERED


@fulfilment.shared
async def cancel(ctx: WorkflowSharedContext) -> None:
    """The customer does not want the food; nothing happens if it is on its way already."""
    ctx.promise("cancelled", str).resolve("cancelled by the customer")


async def pay(ctx: WorkflowContext, placed: OrderPlaced, undo: list[Compensation]) -> None:
    """Charge the customer once; the same token on every attempt is what makes it once."""
    token = str(ctx.uuid())
    # Before the charge: whatever happens in the middle of it, the refund knows by the token if there is one to give.
    undo.append(lambda: ctx.run("refund", bank.refund, token))
    await ctx.run("charge", bank.charge, token, ctx.key, placed.price_cents)


async def prepare(ctx: WorkflowContext, placed: OrderPlaced, undo: list[Compensation]) -> None:
    """Ask the restaurant; its answer comes through a topic and completes the awakeable."""
    answer = ctx.awakeable(RestaurantAnswer)
    undo.append(lambda: ctx.publish(topics.RESTAURANT_REQUESTS, StopPreparing(), key=ctx.key))
    ctx.publish(topics.RESTAURANT_REQUESTS, PrepareOrder(placed.restaurant, placed.dishes, answer.id), key=ctx.key)
    await _report(ctx, OrderStatus.IN_PREPARATION)
    refusal = (await unless_cancelled(ctx, answer)).refusal
    if refusal:
        raise TerminalError(f"{placed.restaurant}: {refusal}", code=422)


async def deliver(ctx: WorkflowContext, placed: OrderPlaced, undo: list[Compensation]) -> None:
    """Send a driver. From the moment that he has the food, the order cannot be cancelled."""
    picked_up, delivered = ctx.awakeable(str), ctx.awakeable(str)
    delivery = Delivery(placed.region, placed.restaurant_at, placed.customer_at, picked_up.id, delivered.id)
    undo.append(lambda: ctx.call(deliveries.call_off, key=ctx.key))
    ctx.send(deliveries.start, delivery, key=ctx.key)
    await _report(ctx, OrderStatus.WAITING_FOR_DRIVER)
    await unless_cancelled(ctx, picked_up)
    await _report(ctx, OrderStatus.IN_DELIVERY)
    await delivered


async def unless_cancelled(ctx: WorkflowContext, awaited: asyncio.Future[T]) -> T:
    """What is awaited.

    Raises:
        CancelledError: the customer was quicker.
    """
    wish = ctx.promise("cancelled", str).wait()
    await asyncio.wait((awaited, wish), return_when=asyncio.FIRST_COMPLETED)
    if awaited.done():
        return awaited.result()
    raise CancelledError(wish.result())


async def _report(ctx: WorkflowContext, status: OrderStatus, reason: str = "") -> None:
    await ctx.call(advance, StatusChange(status, reason), key=ctx.key)


@subscribe(topics.RESTAURANT_ANSWERS)
@restaurant_desk.handler
async def answered(ctx: Context, answer: RestaurantAnswer) -> None:
    """A restaurant has said if there will be food: wake up the order that waits for it."""
    ctx.resolve_awakeable(answer.ticket, answer)
