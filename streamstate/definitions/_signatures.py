"""What a handler function takes and returns, checked as it is declared."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streamstate.definitions._annotations import Scope
from streamstate.definitions._markers import (
    ExclusiveMarker,
    ServiceMarker,
    SharedMarker,
    WorkflowMarker,
    WorkflowSharedMarker,
)
from streamstate.definitions._specs import HandlerKind, ServiceKind
from streamstate.errors import DefinitionError, SerdeError
from streamstate.serde import EmptySerde, Serde, serde_for

MISSING: Any = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class ContextRule:
    """Which context a handler takes: `name` as users write it, a class with `marker` and without those of `beyond`."""

    name: str
    marker: type
    beyond: tuple[type, ...]

    def allows(self, cls: object) -> bool:
        return isinstance(cls, type) and issubclass(cls, self.marker) and not issubclass(cls, self.beyond)


CONTEXT_RULES = {
    (ServiceKind.SERVICE, HandlerKind.SERVICE): ContextRule(
        "Context", ServiceMarker, (SharedMarker, ExclusiveMarker, WorkflowSharedMarker, WorkflowMarker)
    ),
    (ServiceKind.OBJECT, HandlerKind.EXCLUSIVE): ContextRule("ObjectContext", ExclusiveMarker, ()),
    (ServiceKind.OBJECT, HandlerKind.SHARED): ContextRule("ObjectSharedContext", SharedMarker, (ExclusiveMarker,)),
    (ServiceKind.WORKFLOW, HandlerKind.WORKFLOW): ContextRule("WorkflowContext", WorkflowMarker, ()),
    (ServiceKind.WORKFLOW, HandlerKind.SHARED): ContextRule(
        "WorkflowSharedContext", WorkflowSharedMarker, (WorkflowMarker,)
    ),
}


@dataclass(frozen=True, slots=True)
class Signature:
    """The annotations of a handler function as written, MISSING where there is none.

    Attributes:
        target: the handler's full name, for messages.
        payload_name: None when the function takes only its context.
        site: file and line of the function.
    """

    target: str
    context_name: str
    context: Any
    payload_name: str | None
    payload: Any
    result: Any
    site: str

    @classmethod
    def of(cls, function: Callable[..., Any], target: str, site: str) -> Signature:
        """Raises DefinitionError unless the function is async and takes (ctx) or (ctx, payload)."""
        if not inspect.iscoroutinefunction(function):
            raise DefinitionError(
                f"handler {target} must be an async function, got {_what_it_is(function)} — at {site}"
            )
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        if not 1 <= len(parameters) <= 2 or any(parameter.kind not in positional for parameter in parameters):
            shown = f"{len(parameters)} parameter{'' if len(parameters) == 1 else 's'}"
            raise DefinitionError(f"handler {target} takes {shown}; expected (ctx) or (ctx, payload) — at {site}")
        for parameter in parameters:
            if parameter.default is not MISSING:
                raise DefinitionError(
                    f"handler {target}: parameter {parameter.name!r} has a default, which would never be used; "
                    f"drop it, and allow None in the annotation if there may be no payload — at {site}"
                )
        payload = parameters[1] if len(parameters) == 2 else None
        return cls(
            target,
            parameters[0].name,
            parameters[0].annotation,
            None if payload is None else payload.name,
            MISSING if payload is None else payload.annotation,
            signature.return_annotation,
            site,
        )

    def check_annotated(self, rule: ContextRule, input_given: bool) -> None:
        """Raises DefinitionError if an annotation is missing."""
        if self.context is MISSING:
            raise DefinitionError(
                f"handler {self.target}: annotate {self.context_name!r} with {rule.name} — at {self.site}"
            )
        if self.payload_name is None and input_given:
            raise DefinitionError(f"handler {self.target} has an input serde, but no payload — at {self.site}")
        if self.payload_name is not None and self.payload is MISSING and not input_given:
            raise DefinitionError(
                f"handler {self.target}: annotate its payload {self.payload_name!r} with a msgspec.Struct, dataclass, "
                f"dict, bytes …, or object for any JSON — at {self.site}"
            )

    def check_context(self, rule: ContextRule, scope: Scope) -> None:
        """Raises DefinitionError unless the context is annotated with what the kind of handler takes.

        Raises NameError for a name that is not defined (yet). A name that only type checkers see is taken at its word.
        """
        try:
            found = scope.resolve(self.context)
        except NameError:
            if isinstance(self.context, str) and self.context.strip("'\"").rpartition(".")[2] == rule.name:
                return
            raise
        if not rule.allows(found):
            shown = found.__name__ if isinstance(found, type) else found
            raise DefinitionError(
                f"handler {self.target}: {self.context_name!r} is annotated with {shown}; expected {rule.name}"
                f" — at {self.site}"
            )

    def input_serde(self, given: Serde[Any] | None, scope: Scope) -> Serde[Any]:
        """Raises DefinitionError if no serde takes the payload; NameError as `Scope.serde` does."""
        if given is not None:
            return given
        if self.payload_name is None:
            return EmptySerde()
        return self._picked(f"its payload {self.payload_name!r}", self.payload, scope)

    def output_serde(self, given: Serde[Any] | None, scope: Scope) -> Serde[Any]:
        """Raises DefinitionError if no serde takes the result; NameError as `Scope.serde` does."""
        if given is not None:
            return given
        if self.result is MISSING:
            return serde_for(object)
        return self._picked("its result", self.result, scope)

    def _picked(self, part: str, annotation: object, scope: Scope) -> Serde[Any]:
        try:
            return scope.serde(annotation)
        except SerdeError as error:
            raise DefinitionError(f"handler {self.target}: {part}: {error} — at {self.site}") from error


def _what_it_is(function: object) -> str:
    if inspect.isasyncgenfunction(function):
        return "an async generator"
    if inspect.isfunction(function) or inspect.ismethod(function):
        return f"the plain function {function.__name__}: write `async def`"
    return repr(function)
