"""State keys, topics and steps: typed names, whose serdes are picked at the first use."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from streamstate.definitions import DefaultedStateKey, RetryPolicy, StateKey, Step, Topic
from streamstate.errors import DefinitionError, SerdeError
from streamstate.serde import BytesSerde, JsonSerde, StringSerde


class Location(msgspec.Struct):
    lat: float
    lon: float


class Socket:
    """No JSON form."""


LATER = StateKey["Later"]("later")
LATER_TOPIC = Topic[list["Later"]]("later")


class Later(msgspec.Struct):
    x: int


def test_a_state_key_carries_its_type() -> None:
    key = StateKey[Location]("last_seen")
    assert key.name == "last_seen"
    assert key.encode(Location(1.5, 2.0)) == b'{"lat":1.5,"lon":2.0}'
    assert key.decode(b'{"lat":1.0,"lon":2.0}') == Location(1, 2)
    assert not isinstance(key, DefaultedStateKey)


def test_a_state_key_makes_its_serde_once() -> None:
    key = StateKey[Location]("last_seen")
    assert key.encode is key.encode
    assert key.decode is key.decode


def test_a_state_key_may_name_a_type_that_is_defined_later() -> None:
    assert LATER.decode(b'{"x": 1}') == Later(1)


def test_a_state_key_may_name_a_type_of_the_function_around() -> None:
    class Local(msgspec.Struct):
        x: int

    assert StateKey["list[Local]"]("local").decode(b'[{"x": 1}]') == [Local(1)]


def test_a_state_key_without_a_type_is_any_json() -> None:
    key: StateKey[Any] = StateKey("anything")
    assert key.decode(key.encode({"a": [1, None]})) == {"a": [1, None]}


def test_a_state_key_takes_a_serde_of_its_own() -> None:
    assert StateKey[str]("text", serde=StringSerde()).encode("grün") == "grün".encode()


def test_a_default_is_there_and_typed() -> None:
    key = StateKey[int]("count", default=0)
    assert isinstance(key, DefaultedStateKey)
    assert key.default == 0
    assert key.decode(b"7") == 7
    absent = StateKey[int | None]("maybe", default=None)
    assert isinstance(absent, DefaultedStateKey)
    assert absent.default is None


def test_a_default_that_can_be_changed_is_new_each_time() -> None:
    key = StateKey[list[int]]("numbers", default=[1])
    key.default.append(2)
    assert key.default == [1]


def test_bytes_of_an_older_shape_are_upgraded() -> None:
    def upgrade(data: bytes) -> bytes:
        old = msgspec.json.decode(data)
        return msgspec.json.encode({"lat": old["latitude"], "lon": 0})

    key = StateKey[Location]("last_seen", upgrade=upgrade)
    assert key.decode(b'{"latitude": 1}') == Location(1, 0)
    assert key.decode(b'{"lat": 1, "lon": 2}') == Location(1, 2)


def test_bytes_that_do_not_fit_even_upgraded_are_refused() -> None:
    with pytest.raises(SerdeError, match=r"not a JSON Location: .*begins b'upgraded'"):
        StateKey[Location]("last_seen", upgrade=lambda data: b"upgraded").decode(b"{}")


@pytest.mark.parametrize("name", ["", None, 5])
def test_a_state_key_needs_a_name(name: Any) -> None:
    with pytest.raises(DefinitionError, match=r"a state key needs a name, .* — at .*test_keys_topics_steps\.py:\d+"):
        StateKey[int](name)


def test_a_type_that_nothing_can_carry_is_refused_with_the_place_of_the_key() -> None:
    key = StateKey[Socket]("socket")
    with pytest.raises(DefinitionError, match=r"state key 'socket': .*Socket is a class .* — at .*steps\.py:\d+"):
        _ = key.encode
    with pytest.raises(DefinitionError, match=r"topic 'sockets': .*Socket is a class .* — at .*steps\.py:\d+"):
        Topic[Socket]("sockets").encode_value(Socket())


def test_a_name_that_is_never_defined_is_refused_with_the_place_of_the_key() -> None:
    key = StateKey["Never"]("never")  # type: ignore[name-defined]  # the mistake under test
    with pytest.raises(DefinitionError, match="state key 'never': name 'Never' is not defined"):
        _ = key.decode


def test_a_topic_carries_its_type() -> None:
    topic = Topic[Location]("locations", cluster="main")
    assert (topic.name, topic.cluster) == ("locations", "main")
    assert topic.encode_value(Location(1.5, 2.0)) == b'{"lat":1.5,"lon":2.0}'
    assert topic.encode_value(None) is None
    assert LATER_TOPIC.encode_value([Later(1)]) == b'[{"x":1}]'


def test_keys_are_utf_8_or_bytes_as_they_are() -> None:
    topic = Topic[Location]("locations")
    assert topic.encode_key("grün") == "grün".encode()
    assert topic.encode_key(b"\xff") == b"\xff"
    assert topic.encode_key(None) is None


def test_a_topic_takes_serdes_of_its_own() -> None:
    topic = Topic[bytes]("raw", key=JsonSerde(str), value=BytesSerde())
    assert topic.encode_key("k") == b'"k"'
    assert topic.encode_value(b"\x00") == b"\x00"


def test_a_topic_without_keys_refuses_one() -> None:
    topic = Topic[Location]("locations", key=None)
    assert topic.encode_key(None) is None
    with pytest.raises(SerdeError, match="topic 'locations' was declared with key=None, but a message has the key 'k'"):
        topic.encode_key("k")


@pytest.mark.parametrize("name", ["", "a b", "a/b", None, "x" * 250])
def test_a_name_that_no_topic_can_have_is_refused(name: Any) -> None:
    with pytest.raises(DefinitionError, match=r"is no name for a topic: .* — at .*test_keys_topics_steps\.py:\d+"):
        Topic[int](name)


def test_a_step_has_a_name_and_options() -> None:
    step = Step("charge", retry=RetryPolicy(attempts_max=3), serde=StringSerde())
    assert step.name == "charge"
    assert step.retry == RetryPolicy(attempts_max=3)
    with pytest.raises(AttributeError):
        step.name = "other"  # type: ignore[misc]  # the mistake under test


def test_a_step_that_cannot_be_tried_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"a step needs a name — at .*test_keys_topics_steps\.py:\d+"):
        Step("")
    with pytest.raises(DefinitionError, match=r"RetryPolicy\.initial is 5; durations are timedelta"):
        Step("charge", retry=RetryPolicy(initial=5))  # type: ignore[arg-type]  # the mistake under test
    assert Step("charge", retry=RetryPolicy(initial=timedelta(0))).name == "charge"
