"""What decorators make of functions: typed references, to call, send and subscribe with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from streamstate.definitions._declarations import Declaration
from streamstate.definitions._specs import HandlerSpec
from streamstate.errors import UsageError

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)


class Handler(Generic[In, Out]):
    """A declared handler that takes In (None: nothing) and gives Out."""

    __slots__ = ("declaration",)

    def __init__(self, declaration: Declaration) -> None:
        self.declaration = declaration

    @property
    def spec(self) -> HandlerSpec:
        """The handler's spec. A subscription without a name of its own has the name "" here: Apps name it.

        Raises DefinitionError if an annotation names something that is not defined yet.
        """
        return self.declaration.spec

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.declaration.target})"

    if not TYPE_CHECKING:  # type checkers refuse the call, and others get a better message than Python's

        def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
            key = ", key=…" if self.declaration.is_keyed else ""
            raise UsageError(
                f"{self.declaration.target} is a handler, not a function: use `await ctx.call(handler, …{key})` or "
                "ctx.send, and outside of handlers a Client; `handler.spec.function` is the function itself"
            )


class UnkeyedHandler(Handler[In, Out]):
    """A handler that is called without a key."""

    __slots__ = ()


class KeyedHandler(Handler[In, Out]):
    """A handler that is called with a key."""

    __slots__ = ()


class ServiceHandler(UnkeyedHandler[In, Out]):
    """A handler of a service."""

    __slots__ = ()


class ObjectHandler(KeyedHandler[In, Out]):
    """A handler of a virtual object, exclusive or shared."""

    __slots__ = ()


class WorkflowHandler(KeyedHandler[In, Out]):
    """A workflow's main handler, or one of its shared handlers."""

    __slots__ = ()
