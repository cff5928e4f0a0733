"""The list of mutants fits the code: each can be applied, compiles, and names tests that exist."""

from __future__ import annotations

import ast
from collections import Counter

import pytest

from tests.mutants.catalog import MUTANTS
from tests.mutants.mutant import ROOT, Mutant

BY_NAME = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)


def test_names_are_not_used_twice_and_none_of_the_mutants_is_there_twice() -> None:
    assert [name for name, times in Counter(mutant.name for mutant in MUTANTS).items() if times > 1] == []
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in MUTANTS}) == len(MUTANTS)


@BY_NAME
def test_a_mutant_still_applies(mutant: Mutant) -> None:
    applied = mutant.applied((ROOT / mutant.file).read_text(encoding="utf-8"))
    compile(applied, mutant.file, "exec")


@BY_NAME
def test_the_tests_of_a_mutant_are_there(mutant: Mutant) -> None:
    for test in mutant.tests:
        file, _, name = test.partition("::")
        path = ROOT / "tests" / file
        assert path.is_file(), f"{mutant.name}: there is no {path}"
        functions = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        names = {each.name for each in functions if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert not name or name in names, f"{mutant.name}: there is no {name} in {path}"


def test_a_text_that_is_not_there_once_is_refused() -> None:
    mutant = Mutant("m", "f.py", "old", "new", "I1", ())
    assert mutant.applied("an old one") == "an new one"
    with pytest.raises(ValueError, match=r"0 times in f\.py"):
        mutant.applied("another one")
    with pytest.raises(ValueError, match=r"2 times in f\.py"):
        mutant.applied("old and old")
    with pytest.raises(ValueError, match="changes nothing"):
        mutant._replace(new="old").applied("old")
