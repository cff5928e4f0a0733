"""`@subscribe`: which records reach a handler, and what becomes of those that are not ordinary."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar, get_args, get_type_hints

from streamstate.definitions._checks import check_plain_name, check_retry
from streamstate.definitions._handlers import Handler
from streamstate.definitions._policies import Deliver, Keep, Pause, Policies, RetryPolicy, Skip, Start, Stop
from streamstate.definitions._record import Record
from streamstate.definitions._sites import user_site
from streamstate.definitions._specs import SubscriptionSpec
from streamstate.definitions._topics import Topic
from streamstate.errors import DefinitionError
from streamstate.serde import BytesSerde, Serde, StringSerde

AnyHandler = TypeVar("AnyHandler", bound=Handler[Any, Any])
TopicName = str | Topic[Any]

IN_FLIGHT_MAX = 10_000  # undecided records per subscription, so that a backlog of a topic does not fill memory


@dataclass(frozen=True, slots=True)
class Subscribe:
    """The decorator that `subscribe` gives: takes a handler and returns the same one."""

    template: SubscriptionSpec
    key_problem: str | None

    def __call__(self, handler: AnyHandler, /) -> AnyHandler:
        if not isinstance(handler, Handler):
            raise DefinitionError(
                f"@subscribe must stand above the decorator that makes the handler, got {handler!r}"
                f" — at {self.template.site}"
            )
        declaration, template = handler.declaration, self.template
        if declaration.is_keyed and template.key is None and self.key_problem is not None:
            raise DefinitionError(
                f"the subscription of {declaration.target} can give no key: {self.key_problem}; "
                f"say key=lambda record: … — at {template.site}"
            )
        if not declaration.is_keyed and template.key is not None:
            raise DefinitionError(
                f"{declaration.service} is a service and has no keys, but its subscription says key=…; "
                f"drop it, or make {declaration.service} a VirtualObject — at {template.site}"
            )
        declaration.subscribe(replace(template, service=declaration.service, handler=declaration.name))
        return handler


def subscribe(  # noqa: PLR0913 - one keyword per question that a topic raises; all but the topics have an answer
    *topics: TopicName | re.Pattern[str] | Sequence[TopicName],
    name: str | None = None,
    cluster: str | None = None,
    key: Callable[[Record], str] | None = None,
    value: Serde[Any] | None = None,
    start: Start | None = None,
    on_null_key: Stop | Skip | None = None,
    on_tombstone: Deliver | Skip | None = None,
    on_undecodable: Stop | Skip | None = None,
    on_exhausted: Pause | None = None,
    on_failure: Keep | None = None,
    on_duplicate: Skip | None = None,
    retry: RetryPolicy | None = None,
    max_in_flight: int = IN_FLIGHT_MAX,
    options: Mapping[str, str] | None = None,
) -> Subscribe:
    """Hands the records of topics to the handler below; the outermost decorator, several times if need be.

    Args:
        topics: names, `Topic`s, a sequence of them, or one compiled pattern.
        name: identity and consumer group; by default `<app>.<Service>.<handler>`.
        cluster: the connector's name; by default the only one.
        key: the object key of a record; by default the record's key as UTF-8.
        value: the serde of values; by default the handler's input serde.
        start: where to begin the first time; by default `Start.earliest()`.
        on_null_key, on_tombstone, on_undecodable: for a record without key, without value, or that the serde refuses;
            by default `Stop()`, `Deliver()`, `Stop()`.
        on_exhausted, on_failure, on_duplicate: for an event whose attempts are spent, that ends with a TerminalError,
            or whose workflow key has run already; by default `Pause()`, `Keep()`, `Skip()`.
        retry: in place of the handler's policy.
        max_in_flight: at most this many undecided records.
        options: the client's own options, for this subscription alone.

    Raises DefinitionError, with file and line, for whatever is wrong.
    """
    site = user_site()
    names, declared = _topics(_listed(topics), site)
    if name is not None:
        check_plain_name("a subscription", name, site)
    check_retry(retry, site)
    _check_options(options, max_in_flight, site)
    chosen = (on_null_key, on_tombstone, on_undecodable, on_exhausted, on_failure, on_duplicate)
    template = SubscriptionSpec(
        name=name or "",
        topics=names,
        cluster=_agreed("cluster", cluster, [topic.cluster for topic in declared], site),
        service="",
        handler="",
        key=_checked_key(key, site),
        value=_agreed("value", value, [topic.value_override for topic in declared], site),
        start=_start(start, site),
        policies=_policies(chosen, site),
        retry=retry,
        max_in_flight=max_in_flight,
        site=site,
        options=dict(options or {}),
    )
    return Subscribe(template, next(filter(None, map(_key_problem, declared)), None))


def _key_problem(topic: Topic[Any]) -> str | None:
    """Why the keys of a topic's records are not the text that object keys are; None if they are."""
    if topic.key is None:
        return f"topic {topic.name!r} is declared with key=None"
    if not isinstance(topic.key, StringSerde | BytesSerde):
        return f"topic {topic.name!r} is declared with key={topic.key!r}, which is not plain text"
    return None


def _listed(topics: Sequence[object]) -> list[object]:
    listed: list[object] = []
    for topic in topics:
        listed.extend(topic if isinstance(topic, list | tuple) else [topic])
    return listed


def _topics(listed: list[object], site: str) -> tuple[tuple[str, ...] | re.Pattern[str], list[Topic[Any]]]:
    if not listed:
        raise DefinitionError(f'@subscribe needs a topic: @subscribe("orders") — at {site}')
    if isinstance(listed[0], re.Pattern) and len(listed) == 1:
        if not isinstance(listed[0].pattern, str):
            raise DefinitionError(f"the pattern {listed[0].pattern!r} must be of text, not of bytes — at {site}")
        return listed[0], []
    names = []
    for topic in listed:
        if isinstance(topic, re.Pattern):
            raise DefinitionError(f"a pattern must be the only topic of a subscription; join them with '|' — at {site}")
        if not isinstance(topic, str | Topic):
            raise DefinitionError(f"{topic!r} is no topic: give names, a Topic or a compiled pattern — at {site}")
        names.append(topic.name if isinstance(topic, Topic) else topic)
        check_plain_name("a topic", names[-1], site)
    twice = sorted({topic for topic in names if names.count(topic) > 1})
    if twice:
        raise DefinitionError(f"topic {twice[0]!r} is named twice — at {site}")
    return tuple(names), [topic for topic in listed if isinstance(topic, Topic)]


Agreed = TypeVar("Agreed")


def _agreed(what: str, given: Agreed | None, declared: Sequence[Agreed | None], site: str) -> Agreed | None:
    """What the subscription says itself, else what its `Topic`s say with one voice."""
    if given is not None or not declared:
        return given
    if any(other is not declared[0] and other != declared[0] for other in declared):
        raise DefinitionError(f"the topics differ in {what}; say {what}=… here, or subscribe to each alone — at {site}")
    return declared[0]


def _checked_key(key: Callable[[Record], str] | None, site: str) -> Callable[[Record], str] | None:
    if key is None:
        return None
    if not callable(key) or inspect.iscoroutinefunction(key):
        raise DefinitionError(f"key={key!r}: give a plain function of a record, say lambda record: … — at {site}")
    try:
        inspect.signature(key).bind(None)
    except ValueError:
        return key  # a function in C that does not tell its parameters
    except TypeError as error:
        raise DefinitionError(f"the key function must take one record: {error} — at {site}") from error
    return key


def _check_options(options: Mapping[str, str] | None, max_in_flight: object, site: str) -> None:
    if not isinstance(max_in_flight, int) or isinstance(max_in_flight, bool) or max_in_flight < 1:
        raise DefinitionError(f"max_in_flight is {max_in_flight!r}; give a number of records, 1 or more — at {site}")
    for option, setting in (options or {}).items():
        if not isinstance(setting, str):
            raise DefinitionError(f"option {option!r} is {setting!r}; give client options as text — at {site}")


def _start(start: Start | None, site: str) -> Start:
    if start is None:
        return Start.earliest()
    if not isinstance(start, Start) or start.kind not in ("earliest", "latest", "at"):
        raise DefinitionError(f"start={start!r}: give Start.earliest(), latest() or at(…) — at {site}")
    if start.kind == "at" and (start.moment is None or start.moment.utcoffset() is None):
        raise DefinitionError(
            f"Start.at({start.moment!r}) has no time zone; say datetime(…, tzinfo=timezone.utc) — at {site}"
        )
    return start


def _policies(chosen: tuple[object, ...], site: str) -> Policies:
    """The policies in the order of their fields; None is a field's default."""
    types = get_type_hints(Policies)
    given: dict[str, Any] = {}
    for field, policy in zip(fields(Policies), chosen, strict=True):
        allowed = get_args(types[field.name]) or (types[field.name],)
        if policy is None:
            continue
        if not isinstance(policy, allowed):
            available = " or ".join(f"{choice.__name__}()" for choice in allowed)
            raise DefinitionError(
                f"{field.name}={policy!r} is not available in this version; available: {available} — at {site}"
            )
        given[field.name] = policy
    return Policies(**given)
