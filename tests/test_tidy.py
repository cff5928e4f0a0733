"""The house style, as far as the linters do not know it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILE_LINES_MAX = 450  # the aim is 400; past this a noun is missing
FUNCTION_LINES_MAX = 60

# Put together here, so that this file does not find itself.
MARKER = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK")) + r")\b")
SUPPRESSION = re.compile(r"#\s*(type:\s*ignore|noqa)")
WITH_CODE = re.compile(r"#\s*(type:\s*ignore\[[\w, -]+\]|noqa:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*)")
PRINTING = ("streamstate/cli", "examples/", "benchmarks/", "tests/brokers.py")
PUBLIC = re.compile(r"streamstate(\.(serde|client|testing|errors))?|streamstate_kafka(\.testing)?")


def python_files(*folders: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob("*.py"))


SOURCES = python_files("streamstate", "connectors", "examples", "benchmarks")
EVERYTHING = [*SOURCES, *python_files("tests")]


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def imported_modules(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            yield node.module or ""


@pytest.mark.parametrize("name", SOURCES)
def test_files_and_functions_are_short(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    lengths = {
        f"{f.name}, line {f.lineno}": (f.end_lineno or f.lineno) - f.lineno + 1 for f in functions(ast.parse(text))
    }
    assert {f: lines for f, lines in lengths.items() if lines > FUNCTION_LINES_MAX} == {}
    assert len(text.splitlines()) <= FILE_LINES_MAX


@pytest.mark.parametrize("name", EVERYTHING)
def test_nothing_is_left_over_and_every_suppression_has_a_code_and_a_reason(name: str) -> None:
    for number, line in enumerate((ROOT / name).read_text(encoding="utf-8").splitlines(), start=1):
        assert not MARKER.search(line), f"{name}:{number} leaves a marker"
        found = SUPPRESSION.search(line)
        if found and name != "tests/test_tidy.py":
            reason = WITH_CODE.sub("", line[found.start() :])
            assert not SUPPRESSION.search(reason), f"{name}:{number} suppresses without a code"
            assert re.search(r"\w{3}", reason), f"{name}:{number} suppresses without a reason"


@pytest.mark.parametrize("name", EVERYTHING)
def test_only_programs_print(name: str) -> None:
    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    if not name.startswith(PRINTING):
        assert [call.lineno for call in calls if isinstance(call, ast.Name) and call.id == "print"] == []


@pytest.mark.parametrize("name", SOURCES)
def test_private_modules_are_imported_by_their_own_package_alone(name: str) -> None:
    package = ".".join(Path(name).relative_to(Path(name).parts[0]).parts[:-1])
    own = f"{Path(name).parts[0]}.{package}".strip(".") if name.startswith(("streamstate", "benchmarks")) else package
    for module in imported_modules(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
        if module.startswith("streamstate") and "._" in module:
            assert module.split("._")[0] == own, f"{name} reaches into {module}"
        if name.startswith("examples") and module.startswith("streamstate"):
            assert PUBLIC.fullmatch(module), f"{name} uses {module}, which is not public"
