"""What users declare: services, virtual objects, workflows."""

from __future__ import annotations

from streamstate.definitions._declarations import Declaration, Definition
from streamstate.definitions._decorators import (
    ExclusiveDecorator,
    MainDecorator,
    ServiceDecorator,
    SharedDecorator,
    WorkflowSharedDecorator,
)
from streamstate.definitions._specs import HandlerKind, ServiceKind, ServiceSpec
from streamstate.errors import DefinitionError


class Service(Definition):
    """A service: handlers without a key or state, each call on its own.

    Args:
        name: unique in the App, and what callers say.
        retry: what follows a failed attempt of a handler that has no policy of its own.
        retention: how long what has ended is kept.

    Raises DefinitionError for a name that Restate would not take, or options that cannot be followed.
    """

    kind = ServiceKind.SERVICE

    @property
    def handler(self) -> ServiceDecorator:
        """Declares an async function of `ctx: Context`, or of that and a payload."""
        return ServiceDecorator(self, HandlerKind.SERVICE)


class VirtualObject(Definition):
    """A virtual object: handlers that share the state of a key.

    Args:
        name: unique in the App, and what callers say.
        retry: what follows a failed attempt of a handler that has no policy of its own.
        retention: how long what has ended is kept.

    Raises DefinitionError for a name that Restate would not take, or options that cannot be followed.
    """

    kind = ServiceKind.OBJECT

    @property
    def handler(self) -> ExclusiveDecorator:
        """Declares an async function of `ctx: ObjectContext`, or of that and a payload: runs alone on its key."""
        return ExclusiveDecorator(self, HandlerKind.EXCLUSIVE)

    @property
    def shared(self) -> SharedDecorator:
        """Declares an async function of `ctx: ObjectSharedContext`, or of that and a payload: beside others."""
        return SharedDecorator(self, HandlerKind.SHARED)


class Workflow(Definition):
    """A workflow: one main handler that runs once per key, and shared ones that talk to it.

    Args:
        name: unique in the App, and what callers say.
        retry: what follows a failed attempt of a handler that has no policy of its own.
        retention: how long what has ended is kept.

    Raises DefinitionError for a name that Restate would not take, or options that cannot be followed.
    """

    kind = ServiceKind.WORKFLOW

    @property
    def main(self) -> MainDecorator:
        """Declares an async function of `ctx: WorkflowContext`, or of that and a payload: exactly one, once per key."""
        return MainDecorator(self, HandlerKind.WORKFLOW)

    @property
    def shared(self) -> WorkflowSharedDecorator:
        """Declares an async function of `ctx: WorkflowSharedContext`, or of that and a payload: beside the main one."""
        return WorkflowSharedDecorator(self, HandlerKind.SHARED)

    def check_addition(self, declaration: Declaration) -> None:
        main = self._main()
        if declaration.kind is HandlerKind.WORKFLOW and main is not None:
            raise DefinitionError(
                f"workflow {self.name} has two main handlers: at {main.site} and at {declaration.site}; "
                "declare one of them with @….shared"
            )
        super().check_addition(declaration)

    def frozen_spec(self, app: str) -> ServiceSpec:
        if self._main() is None:
            raise DefinitionError(f"workflow {self.name} has no main handler; declare it with @….main — at {self.site}")
        return super().frozen_spec(app)

    def _main(self) -> Declaration | None:
        return next((d for d in self._declarations.values() if d.kind is HandlerKind.WORKFLOW), None)
