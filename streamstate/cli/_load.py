"""From `module:app` on the command line to the App."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import click

from streamstate.app import App
from streamstate.cli._faults import told


@dataclass(frozen=True, slots=True)
class Target:
    """Where an App is: a module, and the name of the App in it."""

    module: str
    attribute: str

    def __str__(self) -> str:
        return f"{self.module}:{self.attribute}"


class TargetType(click.ParamType[Target]):
    """Takes `module:app`."""

    name = "module:app"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Target:
        if isinstance(value, Target):
            return value
        module, _, attribute = str(value).partition(":")
        if module.endswith(".py") or os.sep in module:
            named = module.removesuffix(".py").strip(f".{os.sep}").replace(os.sep, ".")
            self.fail(f"{value!r} names a file; name the module: {named}:{attribute or 'app'}", param, ctx)
        if not all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
            self.fail(f"{value!r} is not of the form module:app, for example shop:app", param, ctx)
        return Target(module, attribute)


def load(target: Target) -> App:
    """The App. The current directory is looked in first, as when Python runs a file of it.

    Raises:
        ClickException: there is no such module, importing it fails, or what is there is not an App.
    """
    if sys.path[0] != os.getcwd():
        sys.path.insert(0, os.getcwd())
    module = _imported(target.module)
    found: object = module
    path: list[str] = []
    for name in target.attribute.split("."):
        if not hasattr(found, name):
            owner = ".".join([target.module, *path])
            raise click.ClickException(f"{owner} has no attribute {name!r}{_hint(name, found, module, target)}")
        found = getattr(found, name)
        path.append(name)
    if not isinstance(found, App):
        kind = type(found).__name__
        raise click.ClickException(f"{target} is of type {kind}, and not an App{_hint('', found, module, target)}")
    return found


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            near = f"; {error.name.rpartition('.')[0]} is not a package" if "not a package" in str(error) else ""
            raise click.ClickException(
                f"there is no module {error.name!r} in {os.getcwd()} or elsewhere on Python's path{near}; "
                "run this in the directory that holds it, or install the package that has it"
            ) from error
        raise _import_failure(name, error) from error
    except (Exception, SystemExit) as error:  # whatever the user's module raises is told, with its file and line
        raise _import_failure(name, error) from error


def _import_failure(name: str, error: BaseException) -> click.ClickException:
    return click.ClickException(f"importing {name} failed: {told(error)}")


def _hint(name: str, owner: object, module: ModuleType, target: Target) -> str:
    apps = [app for app, value in vars(module).items() if isinstance(value, App)]
    if apps:
        return f"; the Apps in {target.module} are: {', '.join(f'{target.module}:{app}' for app in apps)}"
    near = difflib.get_close_matches(name, [each for each in dir(owner) if not each.startswith("_")], 1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    return f"; {meant}{target.module} has no App: make one with app = App([...], name=...)"
