"""Freezing definitions into the program of an App."""

from __future__ import annotations

import re
from typing import Any

import pytest

from streamstate.definitions import Program, Service, VirtualObject, Workflow, freeze, subscribe
from streamstate.errors import DefinitionError, NotFoundError
from tests.definitions.contexts import Context, ObjectContext, WorkflowContext, WorkflowSharedContext


async def greet(ctx: Context) -> None: ...
async def moved(ctx: ObjectContext) -> None: ...
async def parked(ctx: ObjectContext) -> None: ...
async def run(ctx: WorkflowContext) -> None: ...
async def click(ctx: WorkflowSharedContext) -> None: ...


def service(name: str = "Greeter") -> Service:
    made = Service(name)
    made.handler(greet)
    return made


def drivers(*, first: str | None = None, second: str | None = None) -> VirtualObject:
    made = VirtualObject("Driver")
    subscribe("moves", name=first)(made.handler(moved))
    subscribe("parks", name=second)(made.handler(parked))
    return made


def test_a_program_holds_what_it_was_given_and_nothing_else() -> None:
    service("Unlisted")
    workflow = Workflow("SignUp")
    workflow.main(run)
    workflow.shared(click)
    program = freeze("shop", [service(), drivers(), workflow])
    assert program.app == "shop"
    assert {name: sorted(spec.handlers) for name, spec in program.services.items()} == {
        "Greeter": ["greet"],
        "Driver": ["moved", "parked"],
        "SignUp": ["click", "run"],
    }
    assert program.handler("Driver", "moved").function is moved


def test_a_program_cannot_be_changed() -> None:
    program = freeze("shop", [service()])
    with pytest.raises(TypeError):
        program.services["Other"] = program.services["Greeter"]  # type: ignore[index]  # the mistake under test
    with pytest.raises(TypeError):
        program.services["Greeter"].handlers["x"] = program.handler("Greeter", "greet")  # type: ignore[index]  # the mistake under test


def test_a_subscription_is_named_after_app_service_and_handler() -> None:
    program = freeze("shop", [drivers(second="parking")])
    assert [subscription.name for subscription in program.subscriptions] == ["shop.Driver.moved", "parking"]
    assert program.handler("Driver", "moved").subscriptions == program.subscriptions[:1]


def test_two_apps_may_have_the_same_definitions() -> None:
    shared = drivers()
    programs = [freeze(app, [shared]) for app in ("shop", "depot")]
    assert [[s.name for s in program.subscriptions] for program in programs] == [
        ["shop.Driver.moved", "shop.Driver.parked"],
        ["depot.Driver.moved", "depot.Driver.parked"],
    ]


def test_what_is_frozen_takes_no_more_handlers_or_subscriptions() -> None:
    made = service()
    handler = made.handler(name="other")(greet)
    freeze("shop", [made])
    with pytest.raises(DefinitionError, match=r"Greeter is frozen since App 'shop' was built; .*test_program\.py:\d+"):
        made.handler(name="late")(greet)
    with pytest.raises(DefinitionError, match=r"Greeter is frozen since App 'shop' was built; .*test_program\.py:\d+"):
        subscribe("late")(handler)


def test_a_failed_freeze_leaves_the_definitions_open() -> None:
    made = service()
    with pytest.raises(DefinitionError):
        freeze("shop", [made, Service("Empty")])
    made.handler(name="late")(greet)
    assert sorted(freeze("shop", [made]).services["Greeter"].handlers) == ["greet", "late"]


def refusal_of(definitions: Any, app: str = "shop") -> str:
    with pytest.raises(DefinitionError) as refusal:
        freeze(app, definitions)
    return str(refusal.value)


def places(message: str) -> int:
    return len(re.findall(r"test_program\.py:\d+", message))


def test_two_services_of_one_name_are_refused_with_both_places() -> None:
    message = refusal_of([service(), service()])
    assert "App 'shop' has two services named 'Greeter'" in message
    assert places(message) == 2


def test_two_subscriptions_of_one_name_are_refused_with_both_places() -> None:
    message = refusal_of([drivers(first="same", second="same")])
    assert "two subscriptions are named 'same': Driver.moved at" in message
    assert places(message) == 2


def test_a_default_name_that_another_subscription_has_is_refused() -> None:
    assert "are named 'shop.Driver.moved'" in refusal_of([drivers(second="shop.Driver.moved")])


def test_a_workflow_without_a_main_handler_is_refused() -> None:
    workflow = Workflow("SignUp")
    workflow.shared(click)
    message = refusal_of([workflow])
    assert "workflow SignUp has no main handler" in message
    assert places(message) == 1


def test_a_service_without_handlers_is_refused() -> None:
    assert "Empty has no handlers; declare one, or leave it out" in refusal_of([Service("Empty")])


def test_what_is_no_definition_is_refused() -> None:
    made = service()
    assert "App 'shop' was given ServiceHandler(Greeter.other)" in refusal_of([made.handler(name="other")(greet)])


def test_a_name_that_no_consumer_group_can_have_is_refused_for_an_app() -> None:
    assert "'my shop' is no name for an App" in refusal_of([service()], app="my shop")


def test_an_annotation_that_stays_unknown_is_refused_when_frozen() -> None:
    made = Service("Greeter")

    @made.handler
    async def late(ctx: Context, payload: Unknown) -> None: ...  # type: ignore[name-defined]  # noqa: F821 - the mistake under test

    message = refusal_of([made])
    assert "handler Greeter.late: an annotation cannot be resolved: name 'Unknown' is not defined" in message
    assert places(message) == 1


@pytest.fixture
def program() -> Program:
    return freeze("shop", [service(), drivers()])


def test_a_service_that_is_not_there_is_answered_with_those_that_are(program: Program) -> None:
    with pytest.raises(NotFoundError, match="no service 'Drivers' in shop; there are: Driver, Greeter"):
        program.handler("Drivers", "moved")


def test_a_handler_that_is_not_there_is_answered_with_those_that_are(program: Program) -> None:
    with pytest.raises(NotFoundError, match="Driver has no handler 'move'; there are: moved, parked"):
        program.handler("Driver", "move")
