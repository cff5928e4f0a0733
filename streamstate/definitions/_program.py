"""What an App is made of, frozen and checked as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from streamstate.definitions._checks import check_plain_name
from streamstate.definitions._declarations import Definition
from streamstate.definitions._services import Service, VirtualObject, Workflow
from streamstate.definitions._sites import user_site
from streamstate.definitions._specs import HandlerSpec, ServiceSpec, SubscriptionSpec
from streamstate.errors import DefinitionError, NotFoundError


@dataclass(frozen=True, slots=True)
class Program:
    """Everything that exists for one App."""

    app: str
    services: Mapping[str, ServiceSpec]
    subscriptions: tuple[SubscriptionSpec, ...]

    def handler(self, service: str, name: str) -> HandlerSpec:
        """Raises NotFoundError, listing what exists."""
        spec = self.services.get(service)
        if spec is None:
            raise NotFoundError(f"no service {service!r} in {self.app}; there are: {_listing(self.services)}")
        handler = spec.handlers.get(name)
        if handler is None:
            raise NotFoundError(f"{service} has no handler {name!r}; there are: {_listing(spec.handlers)}")
        return handler


def freeze(app_name: str, definitions: Sequence[Service | VirtualObject | Workflow]) -> Program:
    """The program of an App of this name. The definitions take no more handlers, but other Apps may have them too.

    Raises DefinitionError for a name that is given twice, a workflow without main handler, a definition without
    handlers, or an annotation that still cannot be resolved.
    """
    site = user_site()
    check_plain_name("an App", app_name, site)
    services: dict[str, ServiceSpec] = {}
    for definition in definitions:
        if not isinstance(definition, Definition):
            raise DefinitionError(
                f"App {app_name!r} was given {definition!r}; give Services, VirtualObjects and Workflows — at {site}"
            )
        known = services.get(definition.name)
        if known is not None:
            raise DefinitionError(
                f"App {app_name!r} has two services named {definition.name!r}: at {known.site} and at {definition.site}"
            )
        services[definition.name] = definition.frozen_spec(app_name)
    subscriptions = tuple(
        subscription
        for service in services.values()
        for handler in service.handlers.values()
        for subscription in handler.subscriptions
    )
    _check_distinct(subscriptions)
    for definition in definitions:
        definition.close(app_name)
    return Program(app_name, MappingProxyType(services), subscriptions)


def _check_distinct(subscriptions: Sequence[SubscriptionSpec]) -> None:
    seen: dict[str, SubscriptionSpec] = {}
    for subscription in subscriptions:
        known = seen.setdefault(subscription.name, subscription)
        if known is not subscription:
            raise DefinitionError(
                f"two subscriptions are named {subscription.name!r}: {known.service}.{known.handler} at {known.site} "
                f"and {subscription.service}.{subscription.handler} at {subscription.site}; the name is the identity, "
                "so give one of them another"
            )


def _listing(names: Mapping[str, object]) -> str:
    return ", ".join(sorted(names)) or "none"
