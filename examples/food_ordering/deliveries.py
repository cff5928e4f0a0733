"""Deliveries: a manager for each delivery, a matcher for each region, a digital twin for each driver.

None of the handlers waits. Each takes one event, changes the state of its key, and tells the next object; so drivers
may take as long as they like, and the process may be killed between any two events.
"""

from __future__ import annotations

from datetime import timedelta

import msgspec

from food_ordering import topics
from food_ordering.model import (
    DeliverOrder,
    DriverPosition,
    DriverUpdate,
    Location,
    Progress,
    ReleaseDriver,
    extend_trail,
)
from streamstate import ObjectContext, ObjectSharedContext, StateKey, VirtualObject, subscribe

DRIVER_KM_PER_MINUTE = 0.5


class Delivery(msgspec.Struct, frozen=True):
    """What is to be delivered, and the awakeables to resolve on the way."""

    region: str
    restaurant_at: Location
    customer_at: Location
    picked_up: str
    delivered: str


class DeliveryState(msgspec.Struct, frozen=True):
    """One delivery under way."""

    delivery: Delivery
    driver: str | None = None
    has_food: bool = False
    is_called_off: bool = False
    arrives_in: timedelta | None = None


class Board(msgspec.Struct, frozen=True):
    """Who waits for whom in a region, first come first served. One of the two is always empty."""

    orders: tuple[str, ...] = ()
    drivers: tuple[str, ...] = ()


class DriverState(msgspec.Struct, frozen=True):
    """The last update of a driver, and the account of all of them."""

    last: DriverUpdate
    applied: int
    trail: str


DELIVERY = StateKey[DeliveryState]("delivery")
BOARD = StateKey[Board]("board", default=Board())
DRIVER = StateKey[DriverState]("driver")

manager = VirtualObject("DeliveryManager")  # key: order id
matcher = VirtualObject("DriverMatcher")  # key: region
twin = VirtualObject("DriverTwin")  # key: driver id


@manager.handler
async def start(ctx: ObjectContext, delivery: Delivery) -> None:
    """Look for a driver."""
    ctx.set(DELIVERY, DeliveryState(delivery))
    ctx.send(order_waits, ctx.key, key=delivery.region)


@manager.handler
async def assigned(ctx: ObjectContext, driver: str) -> None:
    """The matcher has found a driver."""
    state = await ctx.get(DELIVERY)
    if state is None:
        ctx.log.warning("driver %s was assigned to a delivery that never started", driver)
        return
    if state.is_called_off:
        ctx.send(driver_is_free, driver, key=state.delivery.region)
        return
    ctx.set(DELIVERY, msgspec.structs.replace(state, driver=driver))
    task = DeliverOrder(ctx.key, state.delivery.restaurant_at, state.delivery.customer_at)
    ctx.send(assign, task, key=driver)


@manager.handler
async def progressed(ctx: ObjectContext, update: DriverUpdate) -> None:
    """The driver of this delivery has moved, fetched the food, or handed it over."""
    state = await ctx.get(DELIVERY)
    if state is None or state.is_called_off:
        return
    match update.progress:
        case Progress.PICKED_UP:
            ctx.resolve_awakeable(state.delivery.picked_up, state.driver)
        case Progress.DELIVERED:
            ctx.resolve_awakeable(state.delivery.delivered, state.driver)
    has_food = state.has_food or update.progress is Progress.PICKED_UP
    arrives_in = estimate(update.location, state.delivery, has_food)
    ctx.set(DELIVERY, msgspec.structs.replace(state, has_food=has_food, arrives_in=arrives_in))


@manager.handler
async def call_off(ctx: ObjectContext) -> None:
    """Nobody waits for this delivery any more: give the driver back, or stop looking for one."""
    state = await ctx.get(DELIVERY)
    if state is None or state.is_called_off:
        return
    ctx.set(DELIVERY, msgspec.structs.replace(state, is_called_off=True, arrives_in=None))
    if state.driver is None:
        ctx.send(withdraw, ctx.key, key=state.delivery.region)
    else:
        ctx.send(release, ctx.key, key=state.driver)


@manager.shared
async def arrives_in(ctx: ObjectSharedContext) -> timedelta | None:
    """How long the customer has to wait, as far as anyone can tell."""
    state = await ctx.get(DELIVERY)
    return None if state is None else state.arrives_in


def estimate(driver_at: Location, delivery: Delivery, has_food: bool) -> timedelta:
    """The driving time that is left."""
    if has_food:
        distance_km = driver_at.distance_km(delivery.customer_at)
    else:
        distance_km = driver_at.distance_km(delivery.restaurant_at)
        distance_km += delivery.restaurant_at.distance_km(delivery.customer_at)
    return timedelta(minutes=distance_km / DRIVER_KM_PER_MINUTE)


@matcher.handler
async def order_waits(ctx: ObjectContext, order_id: str) -> None:
    """An order needs a driver."""
    board = await ctx.get(BOARD)
    _match(ctx, Board((*board.orders, order_id), board.drivers))


@matcher.handler
async def driver_is_free(ctx: ObjectContext, driver: str) -> None:
    """A driver can take an order."""
    board = await ctx.get(BOARD)
    if driver not in board.drivers:
        _match(ctx, Board(board.orders, (*board.drivers, driver)))


@matcher.handler
async def withdraw(ctx: ObjectContext, order_id: str) -> None:
    """An order needs no driver any more; if one is on the way to its manager, the manager sends him back."""
    board = await ctx.get(BOARD)
    ctx.set(BOARD, Board(tuple(other for other in board.orders if other != order_id), board.drivers))


@matcher.shared
async def waiting(ctx: ObjectSharedContext) -> Board:
    """Who waits in this region."""
    return await ctx.get(BOARD)


def _match(ctx: ObjectContext, board: Board) -> None:
    orders, drivers = board.orders, board.drivers
    while orders and drivers:
        ctx.send(assigned, drivers[0], key=orders[0])
        orders, drivers = orders[1:], drivers[1:]
    ctx.set(BOARD, Board(orders, drivers))


@subscribe(topics.DRIVER_UPDATES)
@twin.handler
async def updated(ctx: ObjectContext, update: DriverUpdate) -> None:
    """The driver's phone has sent where he is and what he has done."""
    before = await ctx.get(DRIVER)
    applied, trail = (before.applied, before.trail) if before else (0, "")
    after = DriverState(update, applied + 1, extend_trail(trail, update))
    ctx.set(DRIVER, after)
    position = DriverPosition(update.sequence, update.location, after.applied, after.trail)
    ctx.publish(topics.DRIVER_POSITIONS, position, key=ctx.key)
    if update.progress is Progress.AVAILABLE:
        ctx.send(driver_is_free, ctx.key, key=update.region)
    elif update.order_id is not None:
        ctx.send(progressed, update, key=update.order_id)


@twin.handler
async def assign(ctx: ObjectContext, task: DeliverOrder) -> None:
    """Tell the driver what to do."""
    ctx.publish(topics.DRIVER_TASKS, task, key=ctx.key)


@twin.handler
async def release(ctx: ObjectContext, order_id: str) -> None:
    """Tell the driver to forget an order; his phone says `available` when he has."""
    ctx.publish(topics.DRIVER_TASKS, ReleaseDriver(order_id), key=ctx.key)


@twin.shared
async def last_update(ctx: ObjectSharedContext) -> DriverUpdate | None:
    """The last that was heard of this driver."""
    state = await ctx.get(DRIVER)
    return None if state is None else state.last
