"""The decorators of handlers, usable bare and with options, one class per kind of context."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypedDict, TypeVar, Unpack, overload

from streamstate.definitions._declarations import Declaration, Definition, Function, Options
from streamstate.definitions._handlers import ObjectHandler, ServiceHandler, WorkflowHandler
from streamstate.definitions._markers import (
    ExclusiveMarker,
    ServiceMarker,
    SharedMarker,
    WorkflowMarker,
    WorkflowSharedMarker,
)
from streamstate.definitions._policies import RetryPolicy
from streamstate.definitions._sites import user_site
from streamstate.definitions._specs import HandlerKind
from streamstate.errors import DefinitionError
from streamstate.serde import Serde

Given = TypeVar("Given")
Result = TypeVar("Result")
# Named as the classes of the layer above that fit: a type checker shows these names for a context of another kind.
Context = TypeVar("Context", bound=ServiceMarker)
ObjectContext = TypeVar("ObjectContext", bound=ExclusiveMarker)
ObjectSharedContext = TypeVar("ObjectSharedContext", bound=SharedMarker)
WorkflowContext = TypeVar("WorkflowContext", bound=WorkflowMarker)
WorkflowSharedContext = TypeVar("WorkflowSharedContext", bound=WorkflowSharedMarker)


class HandlerOptions(TypedDict, total=False):
    """Options of one handler.

    name: the handler's name, by default the function's.
    input, output: serdes in place of those picked from the annotations.
    retry: in place of the definition's policy.
    """

    name: str
    input: Serde[Any]
    output: Serde[Any]
    retry: RetryPolicy


class Decorator:
    """Declares functions as handlers of one kind."""

    __slots__ = ("_definition", "_kind", "_options")

    def __init__(self, definition: Definition, kind: HandlerKind, options: HandlerOptions | None = None) -> None:
        self._definition = definition
        self._kind = kind
        try:
            self._options = Options(**(options or {}))
        except TypeError as error:
            known = ", ".join(HandlerOptions.__annotations__)
            raise DefinitionError(
                f"{definition.name}: {error}; options of a handler: {known} — at {user_site()}"
            ) from error

    def _declared(self, function: Function) -> Declaration:
        return self._definition.declare(function, self._kind, self._options)


class ServiceDecorator(Decorator):
    """Declares handlers of a service."""

    __slots__ = ()

    @overload
    def __call__(
        self, function: Callable[[Context], Coroutine[Any, Any, Result]], /
    ) -> ServiceHandler[None, Result]: ...
    @overload
    def __call__(
        self, function: Callable[[Context, Given], Coroutine[Any, Any, Result]], /
    ) -> ServiceHandler[Given, Result]: ...
    @overload
    def __call__(self, /, **options: Unpack[HandlerOptions]) -> ServiceDecorator: ...
    def __call__(
        self, function: Function | None = None, /, **options: Unpack[HandlerOptions]
    ) -> ServiceHandler[Any, Any] | ServiceDecorator:
        if function is None:
            return ServiceDecorator(self._definition, self._kind, options)
        return ServiceHandler(self._declared(function))


class ExclusiveDecorator(Decorator):
    """Declares handlers of a virtual object that run alone on their key."""

    __slots__ = ()

    @overload
    def __call__(
        self, function: Callable[[ObjectContext], Coroutine[Any, Any, Result]], /
    ) -> ObjectHandler[None, Result]: ...
    @overload
    def __call__(
        self, function: Callable[[ObjectContext, Given], Coroutine[Any, Any, Result]], /
    ) -> ObjectHandler[Given, Result]: ...
    @overload
    def __call__(self, /, **options: Unpack[HandlerOptions]) -> ExclusiveDecorator: ...
    def __call__(
        self, function: Function | None = None, /, **options: Unpack[HandlerOptions]
    ) -> ObjectHandler[Any, Any] | ExclusiveDecorator:
        if function is None:
            return ExclusiveDecorator(self._definition, self._kind, options)
        return ObjectHandler(self._declared(function))


class SharedDecorator(Decorator):
    """Declares handlers of a virtual object that run beside others on their key and only read."""

    __slots__ = ()

    @overload
    def __call__(
        self, function: Callable[[ObjectSharedContext], Coroutine[Any, Any, Result]], /
    ) -> ObjectHandler[None, Result]: ...
    @overload
    def __call__(
        self, function: Callable[[ObjectSharedContext, Given], Coroutine[Any, Any, Result]], /
    ) -> ObjectHandler[Given, Result]: ...
    @overload
    def __call__(self, /, **options: Unpack[HandlerOptions]) -> SharedDecorator: ...
    def __call__(
        self, function: Function | None = None, /, **options: Unpack[HandlerOptions]
    ) -> ObjectHandler[Any, Any] | SharedDecorator:
        if function is None:
            return SharedDecorator(self._definition, self._kind, options)
        return ObjectHandler(self._declared(function))


class MainDecorator(Decorator):
    """Declares the handler of a workflow that runs once per key."""

    __slots__ = ()

    @overload
    def __call__(
        self, function: Callable[[WorkflowContext], Coroutine[Any, Any, Result]], /
    ) -> WorkflowHandler[None, Result]: ...
    @overload
    def __call__(
        self, function: Callable[[WorkflowContext, Given], Coroutine[Any, Any, Result]], /
    ) -> WorkflowHandler[Given, Result]: ...
    @overload
    def __call__(self, /, **options: Unpack[HandlerOptions]) -> MainDecorator: ...
    def __call__(
        self, function: Function | None = None, /, **options: Unpack[HandlerOptions]
    ) -> WorkflowHandler[Any, Any] | MainDecorator:
        if function is None:
            return MainDecorator(self._definition, self._kind, options)
        return WorkflowHandler(self._declared(function))


class WorkflowSharedDecorator(Decorator):
    """Declares handlers of a workflow that run beside its main one, to signal and to ask."""

    __slots__ = ()

    @overload
    def __call__(
        self, function: Callable[[WorkflowSharedContext], Coroutine[Any, Any, Result]], /
    ) -> WorkflowHandler[None, Result]: ...
    @overload
    def __call__(
        self, function: Callable[[WorkflowSharedContext, Given], Coroutine[Any, Any, Result]], /
    ) -> WorkflowHandler[Given, Result]: ...
    @overload
    def __call__(self, /, **options: Unpack[HandlerOptions]) -> WorkflowSharedDecorator: ...
    def __call__(
        self, function: Function | None = None, /, **options: Unpack[HandlerOptions]
    ) -> WorkflowHandler[Any, Any] | WorkflowSharedDecorator:
        if function is None:
            return WorkflowSharedDecorator(self._definition, self._kind, options)
        return WorkflowHandler(self._declared(function))
