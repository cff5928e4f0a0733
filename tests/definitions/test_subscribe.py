"""Subscribing: defaults, what overrides them, and which mistakes are found."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from streamstate.definitions import (
    DeadLetter,
    Deliver,
    Keep,
    ObjectHandler,
    Pause,
    Policies,
    Record,
    RetryPolicy,
    Service,
    Skip,
    Start,
    Stop,
    Topic,
    VirtualObject,
    subscribe,
)
from streamstate.errors import DefinitionError
from streamstate.serde import JsonSerde, StringSerde
from tests.definitions.contexts import Context, ObjectContext

HERE = r"— at .*test_subscribe\.py:\d+$"


async def moved(ctx: ObjectContext, location: dict[str, float]) -> None: ...


def handler() -> ObjectHandler[dict[str, float], None]:
    return VirtualObject("Driver").handler(moved)


def test_a_subscription_has_the_documented_defaults() -> None:
    subscribed = subscribe("driver-updates")(handler())
    (spec,) = subscribed.spec.subscriptions
    assert spec.topics == ("driver-updates",)
    assert (spec.service, spec.handler) == ("Driver", "moved")
    assert (spec.name, spec.cluster, spec.key, spec.value, spec.retry) == ("", None, None, None, None)
    assert spec.start == Start.earliest()
    assert spec.policies == Policies(Stop(), Deliver(), Stop(), Pause(), Keep(), Skip())
    assert spec.max_in_flight == 10_000
    assert spec.options == {}
    assert re.search(r"test_subscribe\.py:\d+$", spec.site)


def test_subscribe_gives_the_same_handler_back() -> None:
    given = handler()
    assert subscribe("a")(given) is given


def test_everything_can_be_said() -> None:
    def key(record: Record) -> str:
        return record.topic

    moment, value, retry = datetime(2024, 5, 1, tzinfo=UTC), StringSerde(), RetryPolicy(attempts_max=2)
    subscribed = subscribe(
        "a",
        name="positions",
        cluster="main",
        key=key,
        value=value,
        start=Start.at(moment),
        on_null_key=Skip(),
        on_tombstone=Skip(),
        on_undecodable=Skip(),
        retry=retry,
        max_in_flight=5,
        options={"fetch.min.bytes": "1"},
    )(handler())
    (spec,) = subscribed.spec.subscriptions
    assert (spec.name, spec.cluster, spec.key, spec.value, spec.retry) == ("positions", "main", key, value, retry)
    assert spec.start.moment == moment
    assert spec.policies == Policies(on_null_key=Skip(), on_tombstone=Skip(), on_undecodable=Skip())
    assert (spec.max_in_flight, spec.options) == (5, {"fetch.min.bytes": "1"})


@pytest.mark.parametrize("topics", [("a", "b"), (["a", "b"],), (("a", "b"),), (Topic[int]("a"), "b")], ids=repr)
def test_several_topics_may_be_given_one_by_one_or_as_a_sequence(topics: Any) -> None:
    assert subscribe(*topics)(handler()).spec.subscriptions[0].topics == ("a", "b")


def test_a_pattern_may_be_given() -> None:
    pattern = re.compile("driver-.*")
    assert subscribe(pattern)(handler()).spec.subscriptions[0].topics is pattern


def test_a_topic_brings_its_cluster_and_its_serde() -> None:
    value: StringSerde = StringSerde()
    topic = Topic[str]("a", cluster="main", value=value)
    (spec,) = subscribe(topic)(handler()).spec.subscriptions
    assert (spec.cluster, spec.value) == ("main", value)
    (spec,) = subscribe(topic, cluster="other")(handler()).spec.subscriptions
    assert spec.cluster == "other"


def test_topics_that_differ_are_refused() -> None:
    with pytest.raises(DefinitionError, match=f"the topics differ in cluster; say cluster=….*{HERE}"):
        subscribe(Topic[int]("a", cluster="x"), Topic[int]("b", cluster="y"))


def test_several_subscriptions_of_one_handler_stand_in_the_order_of_the_source() -> None:
    subscribed = subscribe("a")(subscribe("b", name="second")(handler()))
    assert [(spec.name, spec.topics) for spec in subscribed.spec.subscriptions] == [("", ("a",)), ("second", ("b",))]


def test_a_second_subscription_needs_a_name_of_its_own() -> None:
    with pytest.raises(DefinitionError) as refusal:
        subscribe("a")(subscribe("b")(handler()))
    assert "handler Driver.moved has two subscriptions without a name" in str(refusal.value)
    assert len(re.findall(r"test_subscribe\.py:\d+", str(refusal.value))) == 2


def test_subscribe_must_stand_outside() -> None:
    with pytest.raises(DefinitionError, match=f"@subscribe must stand above the decorator that makes .*{HERE}"):
        subscribe("a")(moved)  # type: ignore[type-var]  # the mistake under test


def test_a_keyed_handler_cannot_subscribe_to_a_topic_without_keys() -> None:
    keyless = Topic[int]("a", key=None)
    with pytest.raises(DefinitionError, match=f"the subscription of Driver.moved can give no key: .*{HERE}"):
        subscribe(keyless)(handler())
    coded = Topic[int]("a", key=JsonSerde(str))
    with pytest.raises(DefinitionError, match=rf"can give no key: .* key=JsonSerde\(str\), which is not .*{HERE}"):
        subscribe(coded)(handler())
    assert subscribe(keyless, key=lambda record: "k")(handler()).spec.subscriptions[0].key is not None


def test_a_service_subscribes_without_a_key_and_refuses_one() -> None:
    greeter = Service("Greeter")

    @subscribe("a")
    @greeter.handler
    async def greet(ctx: Context, name: str) -> None: ...

    assert greet.spec.subscriptions[0].service == "Greeter"
    with pytest.raises(DefinitionError, match=f"Greeter is a service and has no keys, .*{HERE}"):
        subscribe("b", name="b", key=lambda record: "k")(greet)


async def later(record: Record) -> str:
    return ""


MISTAKES: list[tuple[Callable[[], Any], str]] = [
    (lambda: subscribe(), "@subscribe needs a topic"),
    (lambda: subscribe([]), "@subscribe needs a topic"),
    (lambda: subscribe("a b"), "'a b' is no name for a topic"),
    (lambda: subscribe("a", "a"), "topic 'a' is named twice"),
    (lambda: subscribe(5), "5 is no topic"),  # type: ignore[arg-type]  # the mistake under test
    (lambda: subscribe(re.compile("a"), "b"), "a pattern must be the only topic"),
    (lambda: subscribe(re.compile(b"a")), "the pattern b'a' must be of text"),  # type: ignore[arg-type]  # the mistake under test
    (lambda: subscribe("a", name="a b"), "'a b' is no name for a subscription"),
    (lambda: subscribe("a", name=""), "'' is no name for a subscription"),
    (lambda: subscribe("a", key="k"), "key='k': give a plain function"),  # type: ignore[arg-type]  # the mistake under test
    (lambda: subscribe("a", key=later), "key=.*: give a plain function"),  # type: ignore[arg-type]  # the mistake under test
    (lambda: subscribe("a", key=lambda: "k"), "the key function must take one record"),  # type: ignore[arg-type, misc]  # the mistake under test
    (lambda: subscribe("a", start=Start.at(datetime(2024, 5, 1))), r"Start.at\(.*\) has no time zone"),
    (lambda: subscribe("a", start="latest"), r"start='latest': give Start.earliest\(\)"),  # type: ignore[arg-type]  # the mistake under test
    (lambda: subscribe("a", start=Start("newest")), "start=Start.*: give Start.earliest"),
    (lambda: subscribe("a", max_in_flight=0), "max_in_flight is 0"),
    (lambda: subscribe("a", max_in_flight=True), "max_in_flight is True"),
    (lambda: subscribe("a", options={"x": 1}), "option 'x' is 1"),  # type: ignore[dict-item]  # the mistake under test
    (lambda: subscribe("a", retry=RetryPolicy(initial=1)), "RetryPolicy.initial is 1"),  # type: ignore[arg-type]  # the mistake under test
    (
        lambda: subscribe("a", on_exhausted=DeadLetter("dlq")),  # type: ignore[arg-type]  # the mistake under test
        r"on_exhausted=DeadLetter\(topic='dlq'\) is not available in this version; available: Pause\(\)",
    ),
    (
        lambda: subscribe("a", on_undecodable=DeadLetter("dlq")),  # type: ignore[arg-type]  # the mistake under test
        r"on_undecodable=DeadLetter\(topic='dlq'\) is not available in this version; available: Stop\(\) or Skip\(\)",
    ),
    (
        lambda: subscribe("a", on_null_key=Skip),  # type: ignore[arg-type]  # the mistake under test
        r"on_null_key=<class .*Skip'> is not available in this version; available: Stop\(\) or Skip\(\)",
    ),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_a_mistake_in_a_subscription_is_found_with_file_and_line(mistake: Callable[[], Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=f"{message}.*{HERE}"):
        mistake()
