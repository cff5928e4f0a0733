"""A program that is right: every decorator bare and with options, and the types that come out."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import assert_type

import msgspec

from streamstate.context import (
    Context,
    ObjectContext,
    ObjectSharedContext,
    WorkflowContext,
    WorkflowSharedContext,
)
from streamstate.definitions import (
    ObjectHandler,
    Program,
    RetryPolicy,
    Service,
    ServiceHandler,
    Skip,
    Start,
    Step,
    Topic,
    VirtualObject,
    Workflow,
    WorkflowHandler,
    freeze,
    subscribe,
)
from streamstate.serde import BytesSerde, JsonSerde, StringSerde


class Location(msgspec.Struct):
    lat: float
    lon: float


LOCATIONS = Topic[Location]("locations", cluster="main")
CHARGE = Step("charge", retry=RetryPolicy(initial=timedelta(seconds=1)), serde=JsonSerde(int))

greeter = Service("Greeter")
drivers = VirtualObject("Driver", retry=RetryPolicy(attempts_max=5))
signup = Workflow("SignUp")


@greeter.handler
async def greet(ctx: Context, name: str) -> str:
    return name


@greeter.handler(name="ping", output=StringSerde(), retry=RetryPolicy(attempts_max=1))
async def pong(ctx: Context) -> str:
    return "pong"


@subscribe("driver-updates", key=lambda record: record.topic, start=Start.at(datetime.now(UTC)))
@subscribe(LOCATIONS, name="locations", value=JsonSerde(Location), on_undecodable=Skip())
@subscribe(re.compile("moves-.*"), name="moves")
@drivers.handler
async def moved(ctx: ObjectContext, location: Location) -> None: ...


@drivers.shared
async def where(ctx: ObjectSharedContext) -> Location | None:
    return None


@drivers.shared(input=BytesSerde())
async def near(ctx: ObjectSharedContext, raw: bytes) -> bool:
    return bool(raw)


@signup.main
async def run(ctx: WorkflowContext, user: dict[str, str]) -> bool:
    return bool(user)


@signup.shared
async def click(ctx: WorkflowSharedContext, secret: str) -> None: ...


assert_type(greet, ServiceHandler[str, str])
assert_type(pong, ServiceHandler[None, str])
assert_type(moved, ObjectHandler[Location, None])
assert_type(where, ObjectHandler[None, Location | None])
assert_type(near, ObjectHandler[bytes, bool])
assert_type(run, WorkflowHandler[dict[str, str], bool])
assert_type(click, WorkflowHandler[str, None])
assert_type(LOCATIONS.encode_value(Location(1, 2)), bytes | None)
assert_type(freeze("drivers", [greeter, drivers, signup]), Program)
