"""`streamstate check`: what can be found out about an App without running it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence

import click
from rich.console import Console

from streamstate.app import App
from streamstate.cli._describe import cluster_of, clusters, described, handler_rows, subscription_rows
from streamstate.cli._faults import told
from streamstate.cli._output import Rows, show
from streamstate.errors import DefinitionError, StreamstateError
from streamstate.ingress import Connector

Problems = dict[str, list[str]]
"""By cluster, a sentence each."""


def check(app: App, *, offline: bool) -> tuple[list[str], Problems]:
    """What is wrong with the App itself, and with each cluster; a cluster that was not asked is left out."""
    own = _problems_of_definitions(app)
    return own, {} if offline else asyncio.run(_problems_of_clusters(app))


def report(app: App, own: Sequence[str], found: Problems, to: Console) -> None:
    """The findings for people, but for the sentences about problems."""
    to.print(f"App {app.name}\n")
    show(to, handler_rows(app.program))
    if app.program.subscriptions:
        show(to, subscription_rows(app))
    if app.connectors:
        options = clusters(app)
        cells = [(name, options[name].get("bootstrap.servers", ""), _state(found.get(name))) for name in options]
        show(to, Rows(("cluster", "servers", "state"), cells))
    if not all_problems(own, found):
        to.print("no problems found")


def report_json(app: App, own: Sequence[str], found: Problems) -> None:
    """The findings for programs."""
    states = [
        {"name": name, "options": dict(options), "is_checked": name in found, "problems": found.get(name, [])}
        for name, options in clusters(app).items()
    ]
    document = {**described(app), "clusters": states, "problems": all_problems(own, found)}
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def all_problems(own: Sequence[str], found: Problems) -> list[str]:
    return [*own, *(problem for problems in found.values() for problem in problems)]


def _state(problems: list[str] | None) -> str:
    if problems is None:
        return "not checked"
    return "has problems" if problems else "as it should be"


def _problems_of_definitions(app: App) -> list[str]:
    problems = []
    for subscription in app.program.subscriptions:
        try:
            app.connector_of(subscription).source(subscription)
        except DefinitionError as error:
            problems.append(str(error))
    return problems


async def _problems_of_clusters(app: App) -> Problems:
    names = list(app.connectors)
    found = await asyncio.gather(
        *(_problems_of(connector, _topics(app, name)) for name, connector in app.connectors.items())
    )
    return dict(zip(names, found, strict=True))


def _topics(app: App, cluster: str) -> list[str]:
    wanted = [spec.topics for spec in app.program.subscriptions if cluster_of(app, spec) == cluster]
    return list(dict.fromkeys(topic for topics in wanted if not isinstance(topics, re.Pattern) for topic in topics))


async def _problems_of(connector: Connector, topics: Sequence[str]) -> list[str]:
    try:
        return await connector.check(topics)
    except StreamstateError as error:
        return [f"cluster {connector.name}: {told(error)}"]
