"""JSON of every kind of type that a handler may be annotated with."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest

from streamstate.errors import SerdeError
from streamstate.serde import JsonSerde

ROOT = Path(__file__).parent.parent.parent


class Location(msgspec.Struct):
    lat: float
    lon: float


class Tree(msgspec.Struct):
    value: int
    children: list[Tree] = []


@dataclass
class Order:
    id: str
    lines: list[int]


class User(TypedDict):
    name: str


class Card(pydantic.BaseModel):
    number: str
    tags: set[str] = set()


class Aliased(pydantic.BaseModel):
    holder: str = pydantic.Field(alias="cardHolder")


class Socket:
    """No JSON form."""


@dataclass
class Connection:
    socket: Socket


class Forward(msgspec.Struct):
    target: NotDefinedAnywhere  # type: ignore[name-defined]  # noqa: F821 - the mistake under test


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Location, Location(52.5, 13.4)),
        (Tree, Tree(1, [Tree(2)])),
        (Order, Order("o-1", [1, 2])),
        (User, User(name="Ada")),
        (Card, Card(number="4111", tags={"a"})),
        (Aliased, Aliased(cardHolder="Ada")),
        (list[Card], [Card(number="4111")]),
        (dict[str, Card], {"visa": Card(number="4111")}),
        (Card | None, Card(number="4111")),
        (Location | None, None),
        (int | str, "seven"),
        (dict[int, str], {10: "ten", 2: "two"}),
        (dict[str, object], {"any": ["thing", 1, None]}),
        (object, {"any": ["thing", 1, None]}),
        (Any, [1.5, True]),
        (set[str], {"b", "a"}),
        (tuple[int, str], (1, "a")),
        (str, "text"),
    ],
    ids=repr,
)
def test_a_value_comes_back_as_it_was(annotation: object, value: object) -> None:
    serde: JsonSerde[object] = JsonSerde(annotation)
    assert serde.decode(serde.encode(value)) == value


def test_the_bytes_of_sets_and_dicts_do_not_depend_on_the_process() -> None:
    program = """
import pydantic
from streamstate.serde import JsonSerde
class Card(pydantic.BaseModel):
    tags: set[str]
    nested: dict[str, list[frozenset[int]]]
words = {f"word-{n}" for n in range(20)}
card = Card(tags=words, nested={"a": [frozenset({9, 1, 5})]})
values = {object: [words, {word: 1 for word in words}, {7: "a", 10: "b"}], Card: [card], list[Card]: [[card]]}
for type, samples in values.items():
    for sample in samples:
        print(JsonSerde(type).encode(sample).decode())
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(outputs) == 1
    assert outputs.pop().count(b"word-19") == 4


def test_data_that_does_not_fit_is_refused_with_type_path_and_beginning() -> None:
    with pytest.raises(SerdeError) as refusal:
        JsonSerde(Tree).decode(b'{"value": 1, "children": [{"value": "one"}]}')
    assert str(refusal.value) == (
        "not a JSON Tree: Expected `int`, got `str` - at `$.children[0].value`; "
        """the data begins b'{"value": 1, "children": [{"value": "one"}]}'"""
    )


def test_a_pydantic_refusal_is_one_line_with_the_path() -> None:
    with pytest.raises(SerdeError) as refusal:
        JsonSerde(Card).decode(b'{"number": 4}')
    assert str(refusal.value) == (
        "not a JSON Card: Input should be a valid string - at `$.number`; the data begins b'{\"number\": 4}'"
    )


@pytest.mark.parametrize("data", [b"{", b"\xff", b"[" * 100_000, b"\x00\x00\x00\x00\x01avro"])
def test_data_that_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(SerdeError, match="not a JSON object"):
        JsonSerde[object](object).decode(data)


@pytest.mark.parametrize("data", [b"", b'"\xff"', b"null"])
def test_data_that_is_no_text_is_refused(data: bytes) -> None:
    with pytest.raises(SerdeError, match="not a JSON str"):
        JsonSerde(str).decode(data)


def test_long_data_is_shown_by_its_beginning_alone() -> None:
    with pytest.raises(SerdeError) as refusal:
        JsonSerde(int).decode(b'"' + b"x" * 10_000)
    assert len(str(refusal.value)) < 250
    assert "(10001 bytes)" in str(refusal.value)


@pytest.mark.parametrize("value", [Socket(), [Socket()], {"a": 1, 2: Socket()}, "\ud800", {1, "a"}])
def test_a_value_without_json_is_refused(value: object) -> None:
    with pytest.raises(SerdeError, match="no JSON of object for"):
        JsonSerde[object](object).encode(value)


@pytest.mark.parametrize("annotation", [Socket, list[Socket], Connection, Connection | None, dict[str, Connection]])
def test_a_class_without_json_is_refused_by_name_when_the_serde_is_made(annotation: object) -> None:
    with pytest.raises(SerdeError, match="Socket is a class without a JSON form; use"):
        JsonSerde[object](annotation)


@pytest.mark.parametrize("annotation", [complex, 5, "Location", int | Socket, Card | Order, dict[Socket, int]])
def test_what_is_no_json_type_is_refused_when_the_serde_is_made(annotation: object) -> None:
    with pytest.raises(SerdeError, match="no JSON for"):
        JsonSerde[object](annotation)


def test_a_type_with_a_name_that_is_not_defined_is_refused() -> None:
    with pytest.raises(SerdeError, match="'NotDefinedAnywhere' is not defined"):
        JsonSerde(Forward)


def test_no_data_is_none_where_the_type_allows_none_and_refused_elsewhere() -> None:
    assert JsonSerde[Location | None](Location | None).decode(b"") is None
    assert JsonSerde[Card | None](Card | None).decode(b"") is None
    with pytest.raises(SerdeError, match="not a JSON Location"):
        JsonSerde(Location).decode(b"")
    with pytest.raises(SerdeError, match="not a JSON Card"):
        JsonSerde(Card).decode(b"")


def test_a_pydantic_model_is_written_as_it_is_read() -> None:
    assert JsonSerde(Aliased).encode(Aliased(cardHolder="Ada")) == b'{"cardHolder":"Ada"}'


def test_pydantic_is_not_imported_by_the_serdes() -> None:
    program = "import sys, streamstate.serde as s; s.serde_for(dict[str, int]); print('pydantic' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
        text=True,
    )
    assert run.stdout == "False\n"
