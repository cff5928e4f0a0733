"""The checker: says from the outside whether the application kept its promises.

It knows only what anyone can see: the records of the topics, and the books of the bank. What was published again under
the same message id (the application publishes at least once) counts once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

import msgspec

from food_ordering.bank import CREDIT_CENTS_MAX, Booking
from food_ordering.model import (
    DriverPosition,
    DriverUpdate,
    OrderCancelled,
    OrderEvent,
    OrderPlaced,
    OrderStatus,
    PrepareOrder,
    Progress,
    RestaurantAnswer,
    RestaurantRequest,
    StatusChange,
    StopPreparing,
    extend_trail,
)
from food_ordering.wire import Event

T = TypeVar("T")

_START = OrderStatus.CREATED
_EARLY_END = {OrderStatus.REJECTED, OrderStatus.CANCELLED}
LIFECYCLE: Mapping[OrderStatus, set[OrderStatus]] = {
    OrderStatus.CREATED: {OrderStatus.SCHEDULED, OrderStatus.PAYING, OrderStatus.CANCELLED},
    OrderStatus.SCHEDULED: {OrderStatus.PAYING, OrderStatus.CANCELLED},
    OrderStatus.PAYING: {OrderStatus.IN_PREPARATION, *_EARLY_END},
    OrderStatus.IN_PREPARATION: {OrderStatus.WAITING_FOR_DRIVER, *_EARLY_END},
    OrderStatus.WAITING_FOR_DRIVER: {OrderStatus.IN_DELIVERY, *_EARLY_END},
    OrderStatus.IN_DELIVERY: {OrderStatus.DELIVERED},
    OrderStatus.DELIVERED: set(),
    OrderStatus.REJECTED: set(),
    OrderStatus.CANCELLED: set(),
}


@dataclass(slots=True)
class Evidence:
    """What was seen, in order per key."""

    orders: dict[str, list[OrderEvent]] = field(default_factory=dict)
    statuses: dict[str, list[OrderStatus]] = field(default_factory=dict)
    requests: dict[str, list[RestaurantRequest]] = field(default_factory=dict)
    answers: dict[str, list[RestaurantAnswer]] = field(default_factory=dict)
    updates: dict[str, list[DriverUpdate]] = field(default_factory=dict)
    positions: dict[str, list[DriverPosition]] = field(default_factory=dict)
    books: Sequence[Booking] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """One promise, how much it was tried on, and what speaks against it."""

    promise: str
    seen: str
    faults: tuple[str, ...]

    @property
    def is_kept(self) -> bool:
        return not self.faults


def collect(events: Iterable[Event], books: Sequence[Booking]) -> Evidence:
    """Evidence from the records of all topics, named without a prefix."""
    by_topic: dict[str, list[Event]] = defaultdict(list)
    seen: set[str] = set()
    for event in events:
        if event.message_id not in seen:
            by_topic[event.topic].append(event)
        if event.message_id:
            seen.add(event.message_id)
    changes = _by_key(by_topic["order-status"], msgspec.json.Decoder(StatusChange))
    return Evidence(
        orders=_by_key(by_topic["orders"], msgspec.json.Decoder(OrderEvent)),
        statuses={order: [change.status for change in all_changes] for order, all_changes in changes.items()},
        requests=_by_key(by_topic["restaurant-requests"], msgspec.json.Decoder(RestaurantRequest)),
        answers=_by_key(by_topic["restaurant-answers"], msgspec.json.Decoder(RestaurantAnswer)),
        updates=_by_key(by_topic["driver-updates"], msgspec.json.Decoder(DriverUpdate)),
        positions=_by_key(by_topic["driver-positions"], msgspec.json.Decoder(DriverPosition)),
        books=books,
    )


def check(evidence: Evidence) -> list[Check]:
    """Every promise, each with its faults."""
    placed = [order for order, events in evidence.orders.items() if any(isinstance(e, OrderPlaced) for e in events)]
    ends = Counter(statuses[-1] for statuses in evidence.statuses.values())
    decided = ", ".join(f"{ends[status]} {status}" for status in OrderStatus if status.is_final)
    updates = sum(map(len, evidence.updates.values()))
    asked = sum(booking.requests for booking in evidence.books)
    requests = [request for all_requests in evidence.requests.values() for request in all_requests]
    stopped = sum(isinstance(request, StopPreparing) for request in requests)
    return [
        Check(
            "every order that was placed is decided, none is lost",
            f"{len(placed)} orders: {decided}",
            tuple(_undecided(evidence, placed)),
        ),
        Check(
            "every order goes its way once, and is delivered once",
            f"{sum(map(len, evidence.statuses.values()))} changes of status",
            tuple(_astray(evidence)),
        ),
        Check(
            "what is delivered is paid once, the rest is refunded",
            f"{len(evidence.books)} charges (asked for {asked} times), {_refunds(evidence)} refunds",
            tuple(_unbalanced(evidence)),
        ),
        Check(
            "every restaurant is asked once",
            f"{len(requests) - stopped} requests, {stopped} of them called off later",
            tuple(_asked_again(evidence)),
        ),
        Check(
            "every location update is applied once, in order",
            f"{updates} updates of {len(evidence.updates)} drivers",
            tuple(_misapplied(evidence)),
        ),
    ]


def _undecided(evidence: Evidence, placed: Sequence[str]) -> Iterator[str]:
    for order in placed:
        statuses = evidence.statuses.get(order, [])
        if not statuses:
            yield f"{order} was placed and never heard of again"
        elif not statuses[-1].is_final:
            yield f"{order} is still {statuses[-1]!s}"
    for order in evidence.statuses.keys() - set(placed):
        yield f"{order} has a status and was never placed"


def _astray(evidence: Evidence) -> Iterator[str]:
    handed_over = Counter(
        update.order_id
        for updates in evidence.updates.values()
        for update in updates
        if update.progress is Progress.DELIVERED
    )
    for order, statuses in evidence.statuses.items():
        if statuses[0] is not _START:
            yield f"{order} begins as {statuses[0]!s}"
        for before, after in pairwise(statuses):
            if after not in LIFECYCLE[before]:
                yield f"{order} goes from {before!s} to {after!s}"
        if statuses[-1] is OrderStatus.DELIVERED and handed_over[order] != 1:
            yield f"{order} is delivered, and was handed over {handed_over[order]} times"
        if statuses[-1] in _EARLY_END and not _has_reason(evidence, order, statuses[-1]):
            yield f"{order} is {statuses[-1]!s} for no reason"
    for stray in handed_over.keys() - evidence.statuses.keys():
        yield f"{stray} was handed over, and has no status"


def _has_reason(evidence: Evidence, order: str, end: OrderStatus) -> bool:
    """Customers cancel; restaurants and the bank reject."""
    events = evidence.orders.get(order, [])
    if end is OrderStatus.CANCELLED:
        return any(isinstance(event, OrderCancelled) for event in events)
    is_declined = any(isinstance(event, OrderPlaced) and event.price_cents > CREDIT_CENTS_MAX for event in events)
    return is_declined or any(answer.refusal for answer in evidence.answers.get(order, []))


def _refunds(evidence: Evidence) -> int:
    return sum(booking.refunded for booking in evidence.books)


def _unbalanced(evidence: Evidence) -> Iterator[str]:
    bookings: dict[str, list[Booking]] = defaultdict(list)
    for booking in evidence.books:
        bookings[booking.order_id].append(booking)
    for order, statuses in evidence.statuses.items():
        own = bookings.pop(order, [])
        charges, refunds = len(own), sum(booking.refunded for booking in own)
        # Whoever gets as far as a restaurant has paid; a declined card and an early cancellation have not.
        expected = 1 if OrderStatus.IN_PREPARATION in statuses else charges
        owed_back = 0 if statuses[-1] is OrderStatus.DELIVERED else expected
        if (charges, refunds) != (expected, owed_back) or charges > 1:
            yield f"{order} is {statuses[-1]!s} with {charges} charges and {refunds} refunds"
        price_cents = sum(
            event.price_cents for event in evidence.orders.get(order, []) if isinstance(event, OrderPlaced)
        )
        if own and own[0].cents != price_cents:
            yield f"{order} cost {price_cents} cents, and {own[0].cents} were charged"
    for order in bookings:
        yield f"{order} was charged, and has no status"


def _asked_again(evidence: Evidence) -> Iterator[str]:
    for order, statuses in evidence.statuses.items():
        requests = evidence.requests.get(order, [])
        asked = sum(isinstance(request, PrepareOrder) for request in requests)
        expected = int(OrderStatus.IN_PREPARATION in statuses)
        if asked != expected:
            yield f"the restaurant was asked {asked} times for {order}, expected {expected}"
        stopped = len(requests) - asked
        expected = int(asked > 0 and statuses[-1] in _EARLY_END)
        if stopped != expected:
            yield f"the restaurant was stopped {stopped} times for {order}, expected {expected}"


def _misapplied(evidence: Evidence) -> Iterator[str]:
    for driver in evidence.updates.keys() | evidence.positions.keys():
        sent, applied = evidence.updates.get(driver, []), evidence.positions.get(driver, [])
        if [update.sequence for update in sent] != list(range(1, len(sent) + 1)):
            yield f"{driver} did not number his updates from 1 to {len(sent)}"
        fault = _first_difference(sent, applied)
        if fault:
            yield f"{driver}: {fault}"


def _first_difference(sent: Sequence[DriverUpdate], applied: Sequence[DriverPosition]) -> str:
    trail = ""
    for number, (update, position) in enumerate(zip(sent, applied, strict=False), start=1):
        trail = extend_trail(trail, update)
        if position != DriverPosition(update.sequence, update.location, number, trail):
            return f"update {number} was sent as {update.sequence} at {update.location}, and applied as {position}"
    if len(sent) != len(applied):
        return f"{len(sent)} updates were sent, and {len(applied)} applied"
    return ""


def _by_key(events: Iterable[Event], decoder: msgspec.json.Decoder[T]) -> dict[str, list[T]]:
    values: dict[str, list[T]] = defaultdict(list)
    for event in events:
        values[event.key].append(decoder.decode(event.value))
    return dict(values)
