"""Importing streamstate only defines names: no thread, no log handler, no look at argv or the environment."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent

# Run in a fresh interpreter: imports every module of one package, then tells what that left behind.
PROBE = """
import importlib, json, logging, pkgutil, sys, threading

package = importlib.import_module(sys.argv.pop())
names = [package.__name__]
for found in pkgutil.walk_packages(getattr(package, "__path__", []), package.__name__ + "."):
    if not found.name.endswith(".__main__"):
        names.append(found.name)
names = [name for name in names if name != "streamstate.testing.pytest_plugin"]
for name in names:
    importlib.import_module(name)
loggers = [logging.getLogger(), *(l for l in logging.root.manager.loggerDict.values() if isinstance(l, logging.Logger))]
print(json.dumps({
    "threads": [thread.name for thread in threading.enumerate()],
    "log handlers": [repr(h) for logger in loggers for h in logger.handlers if not isinstance(h, logging.NullHandler)],
    "modules": sorted(sys.modules),
}))
"""

# What a program pays for only when it uses it.
OPTIONAL = {"aiokafka", "confluent_kafka", "fastavro", "pydantic", "restate", "streamstate_kafka", "testcontainers"}

PACKAGES = sorted(
    ".".join(path.relative_to(root).parent.parts)
    for root in (ROOT, ROOT / "connectors")
    for top in root.glob("streamstate*")
    for path in top.rglob("__init__.py")
)
MODULES = sorted(path for folder in ("streamstate", "connectors") for path in (ROOT / folder).rglob("*.py"))


def what_importing_leaves(package: str) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "connectors")])}
    run = subprocess.run([sys.executable, "-c", PROBE, package], env=environment, capture_output=True, check=False)
    assert (run.returncode, run.stderr.decode()) == (0, "")
    left: dict[str, Any] = json.loads(run.stdout)
    return left


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_starts_nothing(package: str) -> None:
    left = what_importing_leaves(package)
    assert left["threads"] == ["MainThread"]
    assert left["log handlers"] == []


def test_importing_the_core_imports_no_connector_and_nothing_optional() -> None:
    assert OPTIONAL.intersection(what_importing_leaves("streamstate")["modules"]) == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_looks_at_argv_or_the_environment_when_imported(path: Path) -> None:
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"argv", "environ", "getenv"}, f"line {node.lineno} reads {node.attr} at import"
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending.extend(ast.iter_child_nodes(node))
