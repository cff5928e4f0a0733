"""Values to bytes and back, for any value of many types (S1, S2 of the JSON serde)."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import uuid
from decimal import Decimal
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamstate.errors import SerdeError
from streamstate.serde import BytesSerde, EmptySerde, Serde, StringSerde, quick_codec, serde_for
from tests.properties import examples


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Point(msgspec.Struct):
    x: float
    y: float = 0.0


class Circle(msgspec.Struct, tag=True):
    centre: Point
    radius: int


class Label(msgspec.Struct, tag=True, rename="camel"):
    shown_text: str
    words: set[str] = set()


@dataclasses.dataclass
class Order:
    id: uuid.UUID
    lines: list[tuple[str, int]]
    total: Decimal
    at: datetime.datetime
    note: str | None = None


class Address(TypedDict):
    street: str
    number: int | None


class Customer(pydantic.BaseModel):
    name: str
    tags: frozenset[str] = frozenset()
    born: datetime.date | None = None


# Not every float: infinities and NaN have no JSON.
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
INTEGERS = st.integers(-(2**63), 2**64 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | INTEGERS | FLOATS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
POINTS = st.builds(Point, FLOATS, FLOATS)
LABELS = st.builds(Label, st.text(), st.sets(st.text()))
CUSTOMERS = st.builds(Customer, name=st.text(), tags=st.frozensets(st.text()), born=st.none() | st.dates())
ORDERS = st.builds(
    Order,
    st.uuids(),
    st.lists(st.tuples(st.text(), INTEGERS)),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.datetimes(timezones=st.just(datetime.UTC)),
    st.none() | st.text(),
)

TYPES: dict[str, tuple[object, st.SearchStrategy[Any]]] = {
    "nothing": (None, st.none()),
    "bytes": (bytes, st.binary()),
    "a flag": (bool, st.booleans()),
    "an integer": (int, INTEGERS),
    "a float": (float, FLOATS),
    "a text": (str, st.text()),
    "any JSON": (object, JSON),
    "an optional": (int | None, st.none() | INTEGERS),
    "a literal": (Literal["a", "b", 1], st.sampled_from(["a", "b", 1])),
    "an enumeration": (Colour, st.sampled_from(Colour)),
    "a constrained number": (Annotated[int, msgspec.Meta(ge=0)], st.integers(0, 100)),
    "a list of lists": (list[list[int]], st.lists(st.lists(INTEGERS))),
    "a tuple": (tuple[int, str], st.tuples(INTEGERS, st.text())),
    "a set": (set[str], st.sets(st.text())),
    "a dict": (dict[str, list[float]], st.dictionaries(st.text(), st.lists(FLOATS))),
    "a dict with numbers as keys": (dict[int, str], st.dictionaries(INTEGERS, st.text())),
    "a struct": (Point, POINTS),
    "a union of structs": (Circle | Label, LABELS | st.builds(Circle, POINTS, INTEGERS)),
    "a dataclass": (Order, ORDERS),
    "a typed dict": (Address, st.fixed_dictionaries({"street": st.text(), "number": st.none() | INTEGERS})),
    "a model": (Customer, CUSTOMERS),
    "a list of models": (list[Customer], st.lists(CUSTOMERS, max_size=3)),
    "a moment": (datetime.datetime, st.datetimes(timezones=st.just(datetime.UTC))),
    "a duration": (datetime.timedelta, st.timedeltas(datetime.timedelta(-9_999), datetime.timedelta(9_999))),
}
# Members that do not compare: msgspec sorts a set before it encodes the members.
UNSORTED: dict[str, tuple[object, set[Any]]] = {
    "members of an enumeration": (set[Colour], set(Colour)),
    "numbers and texts": (set[int | str], {1, "a"}),
    "an optional": (set[int | None], {1, None}),
}
ANY_TYPE = pytest.mark.parametrize("what", TYPES)


@ANY_TYPE
def test_a_value_comes_back_as_it_was(what: str) -> None:
    annotation, values = TYPES[what]
    serde: Serde[Any] = serde_for(annotation)
    encode, decode = quick_codec(serde)

    @examples(20)
    @given(values)
    def check(value: object) -> None:
        data = serde.encode(value)
        assert serde.decode(data) == value
        assert type(serde.decode(data)) is type(value)
        assert serde.encode(serde.decode(data)) == data, "S1: equal values have equal bytes"
        if not isinstance(value, dict):
            assert encode(value) == data
        assert decode(data) == value

    check()


@pytest.mark.xfail(
    strict=True, reason="a set whose members do not compare is taken when declared, and fails when encoded"
)
@pytest.mark.parametrize("what", UNSORTED)
def test_s2_a_set_of_any_members_that_json_can_carry_is_encoded_or_refused_when_it_is_declared(what: str) -> None:
    annotation, value = UNSORTED[what]
    try:
        serde: Serde[Any] = serde_for(annotation)
    except SerdeError:
        return
    assert serde.decode(serde.encode(value)) == value


@ANY_TYPE
def test_any_bytes_are_a_value_or_refused_by_name(what: str) -> None:
    """Whatever a topic holds: SerdeError, which a subscription's policy handles, and nothing else."""
    annotation, _values = TYPES[what]
    serde: Serde[Any] = serde_for(annotation)

    @examples(20)
    @given(st.binary(max_size=20) | JSON.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")))
    def check(data: bytes) -> None:
        try:
            value = serde.decode(data)
        except SerdeError as refused:
            assert len(str(refused)) < 2_000
        else:
            assert serde.decode(serde.encode(value)) == value

    check()


@examples(60)
@given(st.dictionaries(st.text(), INTEGERS, max_size=6), st.randoms(use_true_random=False))
def test_s1_the_order_of_a_dict_does_not_reach_its_bytes(value: dict[str, int], rng: Any) -> None:
    items = list(value.items())
    rng.shuffle(items)
    serde = serde_for(object)
    assert serde.encode(dict(items)) == serde.encode(value)


@examples(60)
@given(st.text())
def test_text_is_its_utf_8(text: str) -> None:
    serde = StringSerde()
    assert serde.encode(text) == text.encode()
    assert serde.decode(serde.encode(text)) == text


@examples(60)
@given(st.binary())
def test_what_is_not_utf_8_is_refused_and_the_rest_is_text(data: bytes) -> None:
    try:
        expected = data.decode()
    except UnicodeDecodeError:
        with pytest.raises(SerdeError, match="not text in UTF-8"):
            StringSerde().decode(data)
    else:
        assert StringSerde().decode(data) == expected


@examples(60)
@given(st.binary())
def test_raw_bytes_are_what_they_are_in_every_form(data: bytes) -> None:
    serde = BytesSerde()
    assert serde.decode(data) is data
    assert serde.encode(data) == serde.encode(bytearray(data)) == serde.encode(memoryview(data)) == data  # type: ignore[arg-type]  # taken, though not promised
    optional = serde_for(bytes | None)
    assert optional.decode(optional.encode(data)) == (data or None)


@examples(60)
@given(st.binary(min_size=1), JSON.filter(lambda value: value is not None))
def test_where_nothing_is_expected_anything_is_refused(data: bytes, value: object) -> None:
    with pytest.raises(SerdeError, match="no data expected"):
        EmptySerde().decode(data)
    with pytest.raises(SerdeError, match="no value expected"):
        EmptySerde().encode(value)  # type: ignore[arg-type]  # the mistake under test
