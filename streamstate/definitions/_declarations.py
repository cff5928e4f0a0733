"""Definitions while they are open, and the frozen specs made of them.

D1: nothing is global; a declaration is known to its definition alone.
D2: what has been frozen by an App cannot change any more, and may be frozen again by another App.
D3: a mistake is reported where it was made: when declared, or, if it takes a later name, when frozen.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from streamstate.definitions._annotations import Scope
from streamstate.definitions._checks import check_handler_name, check_retention, check_retry, check_service_name
from streamstate.definitions._policies import Retention, RetryPolicy
from streamstate.definitions._signatures import CONTEXT_RULES, ContextRule, Signature
from streamstate.definitions._sites import function_site, user_frame, user_site
from streamstate.definitions._specs import HandlerKind, HandlerSpec, ServiceKind, ServiceSpec, SubscriptionSpec
from streamstate.errors import DefinitionError
from streamstate.serde import Serde

Function = Callable[..., Coroutine[Any, Any, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a decorator may say about one handler; None is the definition's own."""

    name: str | None = None
    input: Serde[Any] | None = None
    output: Serde[Any] | None = None
    retry: RetryPolicy | None = None


class Definition:
    """What a service, virtual object or workflow is while its handlers are declared."""

    kind: ServiceKind

    def __init__(self, name: str, *, retry: RetryPolicy | None = None, retention: Retention | None = None) -> None:
        self.site = user_site()
        check_service_name(name, self.site)
        self.name = name
        self.retry = RetryPolicy() if retry is None else retry
        self.retention = Retention() if retention is None else retention
        check_retry(self.retry, self.site)
        check_retention(self.retention, self.site)
        self._declarations: dict[str, Declaration] = {}
        self._frozen_by: str | None = None

    def declare(self, function: Function, kind: HandlerKind, options: Options) -> Declaration:
        """Takes a handler in. Raises DefinitionError, with file and line, for whatever is wrong with it."""
        declaration = Declaration(self, function, kind, options)
        self.check_addition(declaration)
        self._declarations[declaration.name] = declaration
        return declaration

    def check_addition(self, declaration: Declaration) -> None:
        """Raises DefinitionError if the definition is frozen, or has a handler of that name."""
        self.check_open(declaration.site)
        known = self._declarations.get(declaration.name)
        if known is not None:
            raise DefinitionError(
                f"{self.name} has two handlers named {declaration.name!r}: at {known.site} and at {declaration.site}; "
                "give one of them name=…"
            )

    def check_open(self, site: str) -> None:
        """Raises DefinitionError if an App has frozen the definition."""
        if self._frozen_by is not None:
            raise DefinitionError(
                f"{self.name} is frozen since App {self._frozen_by!r} was built; declare before that — at {site}"
            )

    def close(self, app: str) -> None:
        """No more declarations: an App has been built."""
        self._frozen_by = self._frozen_by or app

    def frozen_spec(self, app: str) -> ServiceSpec:
        """The spec, with every name resolved and every subscription named.

        Raises DefinitionError for what could not be checked before.
        """
        if not self._declarations:
            raise DefinitionError(f"{self.name} has no handlers; declare one, or leave it out — at {self.site}")
        handlers = {name: declaration.frozen_spec(app) for name, declaration in self._declarations.items()}
        return ServiceSpec(self.name, self.kind, MappingProxyType(handlers), self.site)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


class Declaration:
    """One handler as declared. Its spec is made at once where its annotations can be resolved, else when asked for."""

    __slots__ = (
        "_function",
        "_options",
        "_owner",
        "_scope",
        "_signature",
        "_spec",
        "_subscriptions",
        "kind",
        "name",
        "site",
    )

    def __init__(
        self,
        owner: Definition,
        function: Function,
        kind: HandlerKind,
        options: Options,
    ) -> None:
        self.site = function_site(function)
        self.name = options.name if options.name is not None else getattr(function, "__name__", "")
        check_handler_name(owner.name, self.name, self.site)
        check_retry(options.retry, self.site)
        self._owner = owner
        self._function = function
        self.kind = kind
        self._options = options
        self._signature = Signature.of(function, f"{owner.name}.{self.name}", self.site)
        self._scope = Scope.of(user_frame(), getattr(inspect.unwrap(function), "__globals__", None))
        self._signature.check_annotated(self._rule, options.input is not None)
        self._subscriptions: tuple[SubscriptionSpec, ...] = ()
        self._spec: HandlerSpec | None = None
        try:
            self._spec = self._resolved()
        except NameError:
            self._spec = None  # a name that comes later in the module: resolved when the spec is asked for

    @property
    def service(self) -> str:
        return self._owner.name

    @property
    def is_keyed(self) -> bool:
        return self._owner.kind is not ServiceKind.SERVICE

    @property
    def target(self) -> str:
        """The handler's full name, as messages show it."""
        return self._signature.target

    @property
    def spec(self) -> HandlerSpec:
        """Raises DefinitionError if an annotation names something that is still not defined."""
        if self._spec is None:
            try:
                self._spec = self._resolved()
            except NameError as error:
                raise DefinitionError(
                    f"handler {self.target}: an annotation cannot be resolved: {error}; define or import it "
                    f"in the module, outside of `if TYPE_CHECKING` — at {self.site}"
                ) from error
        return self._spec

    def subscribe(self, added: SubscriptionSpec) -> None:
        """Raises DefinitionError if two subscriptions have no name of their own, or an App has frozen the handler."""
        self._owner.check_open(added.site)
        for known in self._subscriptions:
            if known.name == added.name == "":
                raise DefinitionError(
                    f"handler {self.target} has two subscriptions without a name, at {known.site} and at {added.site}; "
                    "give one of them name=…, for the name is the identity and must not depend on their order"
                )
        self._subscriptions = (added, *self._subscriptions)
        if self._spec is not None:
            self._spec = replace(self._spec, subscriptions=self._subscriptions)

    def frozen_spec(self, app: str) -> HandlerSpec:
        """The spec with the app's default name where a subscription has none of its own."""
        spec = self.spec
        named = (s if s.name else replace(s, name=f"{app}.{spec.target}") for s in spec.subscriptions)
        return replace(spec, subscriptions=tuple(named))

    @property
    def _rule(self) -> ContextRule:
        return CONTEXT_RULES[self._owner.kind, self.kind]

    def _resolved(self) -> HandlerSpec:
        owner, options, signature = self._owner, self._options, self._signature
        signature.check_context(self._rule, self._scope)
        return HandlerSpec(
            service=owner.name,
            name=self.name,
            service_kind=owner.kind,
            kind=self.kind,
            function=self._function,
            takes_input=signature.payload_name is not None,
            input=signature.input_serde(options.input, self._scope),
            output=signature.output_serde(options.output, self._scope),
            retry=options.retry or owner.retry,
            retention=owner.retention,
            site=self.site,
            subscriptions=self._subscriptions,
        )
