"""Declaring handlers: what comes out, and which mistakes are found with file and line."""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from streamstate.definitions import (
    HandlerKind,
    ObjectHandler,
    Retention,
    RetryPolicy,
    Service,
    ServiceHandler,
    ServiceKind,
    VirtualObject,
    Workflow,
    WorkflowHandler,
)
from streamstate.errors import DefinitionError, UsageError
from streamstate.serde import BytesSerde, StringSerde
from tests.definitions.contexts import (
    Context,
    ObjectContext,
    ObjectSharedContext,
    WorkflowContext,
    WorkflowSharedContext,
)

if TYPE_CHECKING:
    from tests.definitions import contexts
    from tests.definitions.contexts import Context as HiddenContext

HERE = r"— at tests/definitions/test_declaring\.py:\d+$"


class Location(msgspec.Struct):
    lat: float
    lon: float


class Socket:
    """No JSON form."""


@pytest.fixture(autouse=True)
def _in_the_project(pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pytestconfig.rootpath)  # files are shown relative to the working directory


def test_a_handler_of_a_service_knows_its_spec() -> None:
    greeter = Service("Greeter")

    @greeter.handler
    async def greet(ctx: Context, name: str) -> str:
        return name

    assert isinstance(greet, ServiceHandler)
    spec = greet.spec
    assert (spec.service, spec.name, spec.target) == ("Greeter", "greet", "Greeter.greet")
    assert (spec.service_kind, spec.kind, spec.is_keyed) == (ServiceKind.SERVICE, HandlerKind.SERVICE, False)
    assert spec.takes_input
    assert spec.input.decode(b'"Ada"') == "Ada"
    assert spec.output.encode("Ada") == b'"Ada"'
    assert spec.site.startswith("tests/definitions/test_declaring.py:")
    assert spec.subscriptions == ()


def test_a_virtual_object_has_exclusive_and_shared_handlers() -> None:
    drivers = VirtualObject("Driver")

    @drivers.handler
    async def moved(ctx: ObjectContext, location: Location) -> None: ...

    @drivers.shared
    async def where(ctx: ObjectSharedContext) -> Location | None:
        return None

    assert isinstance(moved, ObjectHandler)
    assert isinstance(where, ObjectHandler)
    assert (moved.spec.kind, where.spec.kind) == (HandlerKind.EXCLUSIVE, HandlerKind.SHARED)
    assert moved.spec.input.decode(b'{"lat": 1, "lon": 2}') == Location(1, 2)
    assert moved.spec.output.content_type is None
    assert not where.spec.takes_input
    assert where.spec.input.content_type is None
    assert where.spec.output.encode(None) == b"null"


def test_a_workflow_has_a_main_and_shared_handlers() -> None:
    signup = Workflow("SignUp")

    @signup.main
    async def run(ctx: WorkflowContext, user: dict[str, str]) -> bool:
        return True

    @signup.shared
    async def click(ctx: WorkflowSharedContext, secret: str) -> None: ...

    assert isinstance(run, WorkflowHandler)
    assert isinstance(click, WorkflowHandler)
    assert (run.spec.kind, click.spec.kind) == (HandlerKind.WORKFLOW, HandlerKind.SHARED)
    assert run.spec.service_kind is ServiceKind.WORKFLOW


def test_options_of_a_handler_replace_what_is_picked() -> None:
    retry = RetryPolicy(attempts_max=3)
    greeter = Service("Greeter", retry=RetryPolicy(attempts_max=9), retention=Retention(idempotency=timedelta(hours=1)))

    @greeter.handler(name="hello", input=StringSerde(), output=BytesSerde(), retry=retry)
    async def greet(ctx: Context, name: str) -> bytes:
        return name.encode()

    @greeter.handler()
    async def other(ctx: Context) -> None: ...

    assert greet.spec.target == "Greeter.hello"
    assert greet.spec.input.decode(b"Ada") == "Ada"
    assert greet.spec.output.content_type == "application/octet-stream"
    assert greet.spec.retry is retry
    assert other.spec.retry == RetryPolicy(attempts_max=9)
    assert other.spec.retention.idempotency == timedelta(hours=1)


def test_an_input_serde_makes_an_annotation_of_the_payload_unnecessary() -> None:
    greeter = Service("Greeter")

    async def greet(ctx: Context, name) -> str:  # type: ignore[no-untyped-def]  # what is tested
        return str(name)

    handler = greeter.handler(input=StringSerde())(greet)
    assert handler.spec.input.decode(b"Ada") == "Ada"


async def test_calling_a_handler_says_how_to_call_it() -> None:
    drivers = VirtualObject("Driver")

    @drivers.shared
    async def where(ctx: ObjectSharedContext) -> None: ...

    with pytest.raises(UsageError, match=r"Driver.where is a handler, not a function: use `await ctx.call\(.*key=…"):
        where(ObjectSharedContext())  # type: ignore[operator]  # the mistake under test
    assert await where.spec.function(ObjectSharedContext()) is None


def test_a_payload_type_that_is_defined_later_is_found_when_asked_for() -> None:
    greeter = Service("Greeter")
    namespace: dict[str, Any] = {"Context": Context}
    exec("async def greet(ctx: Context, name: 'Later') -> None: ...", namespace)
    handler: ServiceHandler[Any, Any] = greeter.handler(namespace["greet"])

    with pytest.raises(DefinitionError, match=r"handler Greeter.greet: an annotation cannot be resolved: name 'Later'"):
        _ = handler.spec
    namespace["Later"] = Location
    assert handler.spec.input.decode(b'{"lat": 1, "lon": 2}') == Location(1, 2)


def test_a_wrapped_function_is_read_where_it_was_written() -> None:
    namespace: dict[str, Any] = {"Context": Context, "Elsewhere": Location}
    exec("async def greet(ctx: 'Context', place: 'Elsewhere') -> None: ...", namespace)

    @functools.wraps(namespace["greet"])
    async def wrapper(*arguments: Any) -> None:
        await namespace["greet"](*arguments)

    handler: ServiceHandler[Any, Any] = Service("Greeter").handler(wrapper)
    assert handler.spec.input.decode(b'{"lat": 1, "lon": 2}') == Location(1, 2)
    assert handler.spec.function is wrapper


def test_a_type_of_the_function_around_is_found() -> None:
    class Local(msgspec.Struct):
        x: int

    greeter = Service("Greeter")

    @greeter.handler
    async def greet(ctx: Context, local: list[Local]) -> None: ...

    assert greet.spec.input.decode(b'[{"x": 1}]') == [Local(1)]


def test_a_context_imported_for_type_checkers_alone_is_taken_at_its_name() -> None:
    greeter = Service("Greeter")

    @greeter.handler
    async def greet(ctx: contexts.Context) -> None: ...

    assert greet.spec.target == "Greeter.greet"

    @greeter.handler
    async def hidden(ctx: HiddenContext) -> None: ...

    with pytest.raises(DefinitionError, match="'HiddenContext' is not defined; define or import it in the module"):
        _ = hidden.spec


async def no_parameters() -> None: ...
async def three_parameters(ctx: Context, a: int, b: int) -> None: ...
async def any_parameters(ctx: Context, *rest: int) -> None: ...
async def keyword_only(ctx: Context, *, a: int) -> None: ...
async def with_default(ctx: Context, a: int = 1) -> None: ...
async def no_context_annotation(ctx, a: int) -> None: ...  # type: ignore[no-untyped-def]  # the mistake under test
async def no_payload_annotation(ctx: Context, a) -> None: ...  # type: ignore[no-untyped-def]  # the mistake under test
async def payload_without_json(ctx: Context, a: list[Socket]) -> None: ...
async def result_without_json(ctx: Context) -> Socket:
    return Socket()


async def not_a_context(ctx: int) -> None: ...
async def not_a_type(ctx: Context, a: 5) -> None: ...  # type: ignore[valid-type]  # the mistake under test
async def payload_is_no_syntax(ctx: Context, a: "no type") -> None: ...  # type: ignore[valid-type]  # noqa: F722 - the mistake under test
def not_async(ctx: Context) -> None: ...
async def generator(ctx: Context) -> AsyncIterator[int]:
    yield 1


MISTAKES: list[tuple[Callable[..., Any], str]] = [
    (no_parameters, r"handler S.no_parameters takes 0 parameters; expected \(ctx\) or \(ctx, payload\)"),
    (three_parameters, r"handler S.three_parameters takes 3 parameters; expected \(ctx\) or \(ctx, payload\)"),
    (any_parameters, r"handler S.any_parameters takes 2 parameters; expected \(ctx\) or \(ctx, payload\)"),
    (keyword_only, r"handler S.keyword_only takes 2 parameters; expected"),
    (with_default, "handler S.with_default: parameter 'a' has a default"),
    (no_context_annotation, "handler S.no_context_annotation: annotate 'ctx' with Context"),
    (no_payload_annotation, "annotate its payload 'a' with a msgspec.Struct, dataclass, dict, bytes …, or object for"),
    (payload_without_json, "S.payload_without_json: its payload 'a': .*Socket is a class without a JSON form"),
    (result_without_json, "handler S.result_without_json: its result: .*Socket is a class without a JSON form"),
    (not_a_context, "handler S.not_a_context: 'ctx' is annotated with int; expected Context"),
    (not_a_type, "handler S.not_a_type: its payload 'a': "),
    (payload_is_no_syntax, "handler S.payload_is_no_syntax: its payload 'a': .*is no type"),
    (not_async, "handler S.not_async must be an async function, got the plain function not_async: write `async def`"),
    (generator, "handler S.generator must be an async function, got an async generator"),
]


@pytest.mark.parametrize(("function", "message"), MISTAKES, ids=[function.__name__ for function, _ in MISTAKES])
def test_a_mistake_in_a_handler_is_found_with_file_and_line(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=f"{message}.*{HERE}") as refusal:
        Service("S").handler(function)
    assert str(refusal.value).endswith(f":{function.__code__.co_firstlineno}")


async def takes_service(ctx: Context) -> None: ...
async def takes_object(ctx: ObjectContext) -> None: ...
async def takes_object_shared(ctx: ObjectSharedContext) -> None: ...
async def takes_workflow(ctx: WorkflowContext) -> None: ...
async def takes_workflow_shared(ctx: WorkflowSharedContext) -> None: ...


FITTING: dict[str, tuple[Callable[..., Any], Callable[[], Any]]] = {
    "Context": (takes_service, lambda: Service("S").handler),
    "ObjectContext": (takes_object, lambda: VirtualObject("S").handler),
    "ObjectSharedContext": (takes_object_shared, lambda: VirtualObject("S").shared),
    "WorkflowContext": (takes_workflow, lambda: Workflow("S").main),
    "WorkflowSharedContext": (takes_workflow_shared, lambda: Workflow("S").shared),
}


@pytest.mark.parametrize("expected", FITTING)
@pytest.mark.parametrize("given", FITTING)
def test_a_handler_takes_the_context_of_its_kind_and_no_other(given: str, expected: str) -> None:
    function, decorator = FITTING[given][0], FITTING[expected][1]()
    if given == expected:
        assert decorator(function).spec.kind is not None
    else:
        with pytest.raises(DefinitionError, match=f"'ctx' is annotated with {given}; expected {expected} {HERE}"):
            decorator(function)


def test_two_handlers_of_one_name_are_refused_with_both_places() -> None:
    service = Service("S")
    service.handler(takes_service)
    with pytest.raises(DefinitionError) as refusal:
        service.handler(name="takes_service")(result_none)
    assert re.findall(r"test_declaring\.py:(\d+)", str(refusal.value)) == [
        str(takes_service.__code__.co_firstlineno),
        str(result_none.__code__.co_firstlineno),
    ]


async def result_none(ctx: Context) -> None: ...


def test_a_second_main_handler_is_refused_and_leaves_the_first() -> None:
    workflow = Workflow("W")
    first = workflow.main(takes_workflow)
    with pytest.raises(DefinitionError, match=r"workflow W has two main handlers: at .* and at .*declare one of them"):
        workflow.main(name="again")(takes_workflow)
    assert workflow.frozen_spec("app").handlers == {"takes_workflow": first.spec}


@pytest.mark.parametrize("name", ["", "a b", "1st", "-a", "a/b", "ä", "restateful", "OpenAPI", None])
def test_a_name_that_restate_would_not_take_is_refused_for_a_service(name: Any) -> None:
    with pytest.raises(DefinitionError, match=f"{name!r} is (no name for a service|reserved by Restate).*{HERE}"):
        Service(name)


@pytest.mark.parametrize("name", ["", "a b", "1st", "a-b", "a.b"])
def test_a_name_that_restate_would_not_take_is_refused_for_a_handler(name: str) -> None:
    with pytest.raises(DefinitionError, match=f"{name!r} is no name for a handler of S.*{HERE}"):
        Service("S").handler(name=name)(takes_service)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (RetryPolicy(initial=5), "RetryPolicy.initial is 5; durations are timedelta"),  # type: ignore[arg-type]  # the mistake under test
        (RetryPolicy(interval_max=0.5), "RetryPolicy.interval_max is 0.5; durations"),  # type: ignore[arg-type]  # the mistake under test
        (RetryPolicy(duration_max=60), "RetryPolicy.duration_max is 60; durations"),  # type: ignore[arg-type]  # the mistake under test
        (RetryPolicy(duration_max=timedelta(seconds=-1)), "RetryPolicy.duration_max is .*longer than nothing"),
        (RetryPolicy(attempts_max=0), "RetryPolicy.attempts_max is 0"),
        (RetryPolicy(attempts_max=2.5), "RetryPolicy.attempts_max is 2.5"),  # type: ignore[arg-type]  # the mistake under test
        (RetryPolicy(factor=0.5), "RetryPolicy.factor is 0.5"),
        (3, r"retry=3: give a RetryPolicy\(…\)"),
    ],
)
def test_a_policy_that_cannot_be_followed_is_refused_wherever_it_is_given(policy: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=f"{message}.*{HERE}"):
        Service("S", retry=policy)
    with pytest.raises(DefinitionError, match=f"{message}.*{HERE}"):
        Service("S").handler(retry=policy)(takes_service)


def test_a_retention_in_plain_numbers_is_refused() -> None:
    with pytest.raises(DefinitionError, match=f"Retention.workflow is 24; durations are timedelta.*{HERE}"):
        Workflow("W", retention=Retention(workflow=24))  # type: ignore[arg-type]  # the mistake under test


def test_an_unknown_option_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(DefinitionError, match=f"'timeout'; options of a handler: name, input, output, retry {HERE}"):
        Service("S").handler(timeout=5)  # type: ignore[call-overload]  # the mistake under test


def test_an_input_serde_without_a_payload_is_refused() -> None:
    with pytest.raises(DefinitionError, match=f"handler S.takes_service has an input serde, but no payload {HERE}"):
        Service("S").handler(input=StringSerde())(takes_service)
