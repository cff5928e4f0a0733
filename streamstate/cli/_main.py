"""The commands. Mistakes of the user's end with one sentence on standard error: exit code 1, or 2 for wrong usage."""

from __future__ import annotations

import re
import sys
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args

import click

from streamstate.app import DATA_DEFAULT
from streamstate.cli._backup import backup_command, restore_command
from streamstate.cli._check import all_problems, check, report, report_json
from streamstate.cli._demo import play
from streamstate.cli._describe import cluster_rows, clusters, service_rows, subscription_rows
from streamstate.cli._doctor import doctor_command
from streamstate.cli._faults import told
from streamstate.cli._load import Target, TargetType, load
from streamstate.cli._output import console, show
from streamstate.cli._run import log_to_stderr, run
from streamstate.engine import EngineOptions
from streamstate.errors import StreamstateError
from streamstate.ingress import render

Format = Literal["table", "toml", "json", "curl"]
LOG_LEVELS = ("debug", "info", "warning", "error")


class Commands(click.Group):
    """Tells every error of streamstate in one sentence."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StreamstateError as error:
            raise click.ClickException(told(error)) from error


def _show_version(ctx: click.Context, _: click.Parameter, is_asked: bool) -> None:
    if not is_asked:
        return
    try:
        click.echo(f"streamstate {metadata.version('streamstate')}")
    except metadata.PackageNotFoundError:
        click.echo("streamstate, from sources that are not installed")
    ctx.exit()


def _checked_address(_: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[^\s:,]+:\d+(,[^\s:,]+:\d+)*", value):
        raise click.BadParameter(f"{value!r} is not of the form host:port, for example localhost:9092", param=parameter)
    return value


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
def main() -> None:
    """Kafka event processing on virtual objects and durable execution.

    \b
    Example:
      streamstate run shop:app
    """


@main.command("run")
@click.argument("target", metavar="MODULE:APP", type=TargetType())
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=DATA_DEFAULT,
    show_default=True,
    help="The data directory; made if it is not there. One process owns it at a time.",
)
@click.option(
    "--drain",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=EngineOptions().drain.total_seconds(),
    show_default=True,
    help="How long a stop waits for steps that run; those that take longer run again at the next start.",
)
@click.option(
    "--take-over",
    is_flag=True,
    help="Read on what another data directory, or a newer copy of this one, has read. Stop the other one first.",
)
@click.option(
    "--log-level",
    type=click.Choice(LOG_LEVELS),
    default="info",
    show_default=True,
    help="What to log, unless the App's module sets up logging itself.",
)
def run_command(target: Target, data: Path, drain: float, take_over: bool, log_level: str) -> None:
    """Run an App on the embedded engine, until SIGTERM or Ctrl-C.

    Then it drains: sources stop, turns end, commits finish. A second Ctrl-C ends it at once; nothing that was
    acknowledged is lost.

    \b
    Example:
      streamstate run shop:app --data /var/lib/shop
    """
    app = load(target)
    log_to_stderr(log_level)
    for subscription in app.program.subscriptions:
        app.connector_of(subscription)
    to = console()
    to.print(f"App {app.name} on the embedded engine\ndata directory {data}\n", soft_wrap=True)
    show(to, service_rows(app.program))
    if app.program.subscriptions:
        show(to, subscription_rows(app))
    run(app, data, drain=timedelta(seconds=drain), say=click.echo, take_over=take_over)


@main.command("check")
@click.argument("target", metavar="MODULE:APP", type=TargetType())
@click.option("--offline", is_flag=True, help="Do not connect to the clusters.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check_command(target: Target, offline: bool, as_json: bool) -> None:
    """Check an App: definitions, payload types, subscriptions, clusters and their topics.

    Exits with 1 when there are problems.

    \b
    Example:
      streamstate check shop:app --offline
    """
    app = load(target)
    own, found = check(app, offline=offline)
    if as_json:
        report_json(app, own, found)
    else:
        report(app, own, found, console())
    problems = all_problems(own, found)
    for problem in problems:
        click.echo(f"Problem: {problem}", err=True)
    if problems:
        sys.exit(1)


@main.command("subscriptions")
@click.argument("target", metavar="MODULE:APP", type=TargetType())
@click.option("--format", "format_", type=click.Choice(get_args(Format)), help="What to print.  [default: table]")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--admin-url", metavar="URL", help="Of the Restate server, for --format curl.")
def subscriptions_command(target: Target, format_: Format | None, as_json: bool, admin_url: str | None) -> None:
    """Print an App's subscriptions as configuration of a Restate server. Connects to nothing.

    What Restate does differently is told on standard error.

    \b
    Example:
      streamstate subscriptions shop:app --format curl
    """
    if as_json and format_ not in (None, "json"):
        raise click.UsageError(f"--json and --format {format_} exclude each other")
    app = load(target)
    options = {} if admin_url is None else {"admin_url": admin_url}
    chosen: Format = "json" if as_json else format_ or "table"
    config = render(chosen, app.program.subscriptions, clusters(app), **options)
    to = console()
    if chosen == "table" and max(map(len, config.text.splitlines())) > to.width:
        show(to, subscription_rows(app))
        show(to, cluster_rows(app))
    else:
        click.echo(config.text, nl=False)
    for warning in config.warnings:
        click.echo(f"Warning: {warning}", err=True)


@main.command("demo")
@click.option("--orders", type=click.IntRange(min=1), help="How many orders are placed.")
@click.option("--drivers", type=click.IntRange(min=1), help="How many drivers there are.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    default=4.0,
    show_default=True,
    help="Orders placed a second.",
)
@click.option(
    "--kafka",
    metavar="HOST:PORT",
    callback=_checked_address,
    help="A real broker; without it, the demo brings a cluster of its own.",
)
@click.option("--keep", is_flag=True, help="Go on with new orders until Ctrl-C, and leave the data directory.")
@click.option("--chaos", is_flag=True, help="Kill the worker process several times on the way.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the result as JSON; the live table goes to standard error."
)
def demo_command(as_json: bool, **choices: Any) -> None:
    """Play food ordering, and check that every promise was kept. No Docker, no Java, about half a minute.

    Exits with 1 when a promise was broken.

    \b
    Example:
      streamstate demo --chaos
    """
    given = {name: value for name, value in choices.items() if value is not None}
    if not play(given, as_json=as_json):
        sys.exit(1)


main.add_command(backup_command)
main.add_command(restore_command)
main.add_command(doctor_command)
