"""What an App is made of, as rows for a table and as values for JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from streamstate.app import App
from streamstate.cli._output import Rows
from streamstate.definitions import HandlerSpec, Program, SubscriptionSpec
from streamstate.errors import DefinitionError
from streamstate.serde import EmptySerde, Serde


def service_rows(program: Program) -> Rows:
    cells = [(spec.name, spec.kind.value, ", ".join(spec.handlers)) for spec in program.services.values()]
    return Rows(("service", "kind", "handlers"), cells)


def handler_rows(program: Program) -> Rows:
    cells = [(spec.target, spec.kind.value, *_payloads(spec), spec.site) for spec in _handlers(program)]
    return Rows(("handler", "runs", "input", "output", "declared at"), cells)


def subscription_rows(app: App) -> Rows:
    cells = [
        (spec.name, _topics(spec), cluster_of(app, spec) or "not there", f"{spec.service}.{spec.handler}", _start(spec))
        for spec in app.program.subscriptions
    ]
    return Rows(("subscription", "topics", "cluster", "target", "start"), cells)


def cluster_rows(app: App) -> Rows:
    cells = [(name, options.get("bootstrap.servers", "")) for name, options in clusters(app).items()]
    return Rows(("cluster", "bootstrap servers"), cells)


def described(app: App) -> dict[str, Any]:
    """The App for JSON."""
    return {
        "app": app.name,
        "handlers": [
            {
                "target": spec.target,
                "service_kind": spec.service_kind.value,
                "kind": spec.kind.value,
                "input": _payloads(spec)[0] or None,
                "output": _payloads(spec)[1] or None,
                "site": spec.site,
            }
            for spec in _handlers(app.program)
        ],
        "subscriptions": [
            {
                "name": spec.name,
                "topics": None if isinstance(spec.topics, re.Pattern) else list(spec.topics),
                "pattern": spec.topics.pattern if isinstance(spec.topics, re.Pattern) else None,
                "cluster": cluster_of(app, spec),
                "target": f"{spec.service}.{spec.handler}",
                "start": _start(spec),
                "site": spec.site,
            }
            for spec in app.program.subscriptions
        ],
    }


def cluster_of(app: App, spec: SubscriptionSpec) -> str | None:
    """The name of the cluster that a subscription reads; None if it is not there."""
    try:
        return app.connector_of(spec).name
    except DefinitionError:
        return None


def clusters(app: App) -> Mapping[str, Mapping[str, str]]:
    """The client options of each cluster, without secrets."""
    return {name: connector.redacted_options() for name, connector in app.connectors.items()}


def _handlers(program: Program) -> list[HandlerSpec]:
    return [handler for service in program.services.values() for handler in service.handlers.values()]


def _payloads(spec: HandlerSpec) -> tuple[str, str]:
    return _payload(spec.input) if spec.takes_input else "", _payload(spec.output)


def _payload(serde: Serde[Any]) -> str:
    if isinstance(serde, EmptySerde):
        return ""
    text = repr(serde)
    return type(serde).__name__ if text.startswith("<") else text


def _topics(spec: SubscriptionSpec) -> str:
    return f"/{spec.topics.pattern}/" if isinstance(spec.topics, re.Pattern) else ", ".join(spec.topics)


def _start(spec: SubscriptionSpec) -> str:
    return spec.start.kind if spec.start.moment is None else f"{spec.start.kind} {spec.start.moment.isoformat()}"
