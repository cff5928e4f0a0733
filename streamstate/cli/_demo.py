"""`streamstate demo`: the food ordering application, with the world around it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from streamstate.cli._faults import told
from streamstate.errors import StreamstateError

if TYPE_CHECKING:
    from food_ordering.demo import DemoOptions, DemoResult

REMEDY = "pip install 'streamstate[kafka]'"


def play(choices: Mapping[str, Any], *, as_json: bool) -> bool:
    """Play the demo; True when every promise was kept.

    Args:
        choices: fields of the demo's options; what is not chosen is the demo's own default.
        as_json: print the result, and nothing else, on standard output.

    Raises:
        ClickException: the demo is not installed, or the broker cannot be used.
    """
    try:
        from food_ordering.demo import DemoOptions
    except ImportError as error:
        raise click.ClickException(f"the demo cannot be imported ({error}): {REMEDY}") from error
    result = _played(DemoOptions(**choices), Console(stderr=as_json))
    if as_json:
        click.echo(json.dumps(_document(result), indent=2, ensure_ascii=False))
    return result.is_kept


def _played(options: DemoOptions, to: Console) -> DemoResult:
    from food_ordering.demo import run_demo

    try:
        return asyncio.run(run_demo(options, to))
    except StreamstateError as error:
        raise click.ClickException(told(error)) from error


def _document(result: DemoResult) -> dict[str, object]:
    return {
        "is_kept": result.is_kept,
        "elapsed_s": round(result.elapsed_s, 3),
        "kills": result.kills,
        "folder": None if result.folder is None else str(result.folder),
        "checks": [
            {"promise": check.promise, "is_kept": check.is_kept, "seen": check.seen, "faults": list(check.faults)}
            for check in result.checks
        ],
    }
