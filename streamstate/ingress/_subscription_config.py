"""Subscriptions as configuration for a Restate server: pure, from specs and redacted client options to text.

C1: no value of a secret is ever rendered; in its place stands ${NAME}, which only the curl lines expand, in the shell.
C2: what Restate would deliver to another object, or not at all, is left out; that, and what it does differently, is
named.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from streamstate.definitions import SubscriptionSpec
from streamstate.errors import UsageError
from streamstate.ingress._restate_limits import limits, reason_to_leave_out

ConfigFormat = Literal["table", "toml", "json", "curl"]
Clusters = Mapping[str, Mapping[str, str]]

ADMIN_URL = "http://localhost:9070"
PLACEHOLDER = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
SECRET = re.compile(
    r"password|secret|passphrase|token|credential|private\.key|ssl\.key\.|ssl\.keystore\.key|"
    r"sasl\.(username|jaas|oauthbearer\.config)|user\.info",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class SubscriptionConfig:
    """Rendered configuration.

    Attributes:
        text: what the format asks for, with a line feed at its end.
        warnings: what Restate does differently or cannot do, a sentence each.
    """

    text: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Subscription:
    """One subscription of Restate: exactly one topic."""

    source: str
    sink: str
    options: Mapping[str, str]


def render(
    format: ConfigFormat,
    subscriptions: Sequence[SubscriptionSpec],
    clusters: Clusters,
    *,
    admin_url: str = ADMIN_URL,
) -> SubscriptionConfig:
    """Render subscriptions and their clusters.

    Args:
        format: `json` holds the bodies of POST /kafka-clusters and POST /subscriptions, `curl` the requests themselves,
            `toml` the clusters as part of restate.toml, `table` what the App subscribes to, for people.
        subscriptions: complete specs, in the order in which they are to appear.
        clusters: redacted client options by cluster name; each has `bootstrap.servers`.
        admin_url: of the Restate server; only curl lines show it.

    Raises UsageError for a format that is not there, and for a subscription to a cluster that is not there.
    """
    if format not in _FORMATS:
        raise UsageError(f"no format is named {format!r}; there are {', '.join(_FORMATS)}")
    by_cluster = [(spec, _cluster_name(spec, clusters)) for spec in subscriptions]
    if format == "table":
        return SubscriptionConfig(_table(by_cluster, clusters), tuple(limits(subscriptions)))
    rendered = [one for spec, cluster in by_cluster for one in _restate_subscriptions(spec, cluster)]
    text = _FORMATS[format](clusters, rendered, admin_url)
    return SubscriptionConfig(text, (*limits(subscriptions), *_format_limits(format, text)))


def _cluster_name(spec: SubscriptionSpec, clusters: Clusters) -> str:
    if spec.cluster is None and len(clusters) == 1:
        return next(iter(clusters))
    if spec.cluster is not None and spec.cluster in clusters:
        return spec.cluster
    named = "names no cluster" if spec.cluster is None else f"names cluster {spec.cluster!r}"
    there = ", ".join(clusters) or "none"
    raise UsageError(f"subscription {spec.name} {named}; the App's connectors are: {there} — at {spec.site}")


def _restate_subscriptions(spec: SubscriptionSpec, cluster: str) -> Iterable[_Subscription]:
    if isinstance(spec.topics, re.Pattern) or reason_to_leave_out(spec) is not None:
        return
    options = {name: _without_secret(name, value) for name, value in spec.options.items()}
    # The group is the embedded engine's too: Restate goes on where that one last reported.
    options |= {
        "group.id": spec.name,
        "auto.offset.reset": "latest" if spec.start.kind == "latest" else "earliest",
    }
    for topic in spec.topics:
        yield _Subscription(f"kafka://{cluster}/{topic}", f"service://{spec.service}/{spec.handler}", options)


def _without_secret(name: str, value: str) -> str:
    if not SECRET.search(name) or PLACEHOLDER.fullmatch(value):
        return value
    return "${" + re.sub(r"\W", "_", name).upper() + "}"


def _properties(options: Mapping[str, str]) -> dict[str, str]:
    return {name: _without_secret(name, value) for name, value in sorted(options.items())}


def _json(clusters: Clusters, subscriptions: Sequence[_Subscription], _: str) -> str:
    document = {
        "kafka-clusters": [_cluster_body(name, options) for name, options in clusters.items()],
        "subscriptions": [_subscription_body(subscription) for subscription in subscriptions],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _cluster_body(name: str, options: Mapping[str, str]) -> dict[str, object]:
    return {"name": name, "properties": _properties(options)}


def _subscription_body(subscription: _Subscription) -> dict[str, object]:
    return {"source": subscription.source, "sink": subscription.sink, "options": dict(subscription.options)}


def _curl(clusters: Clusters, subscriptions: Sequence[_Subscription], admin_url: str) -> str:
    requests = [("kafka-clusters", _cluster_body(name, options)) for name, options in clusters.items()]
    requests += [("subscriptions", _subscription_body(subscription)) for subscription in subscriptions]
    lines = []
    for path, body in requests:
        url = shlex.quote(f"{admin_url.rstrip('/')}/{path}")
        word = _shell_word(json.dumps(body, ensure_ascii=False))
        lines.append(f"curl --fail -X POST {url} -H 'content-type: application/json' -d {word}\n")
    return "".join(lines)


def _shell_word(text: str) -> str:
    """One word of a POSIX shell that is `text`, except that placeholders which are whole JSON strings expand."""
    quoted: list[str] = []
    position = 0
    for found in re.finditer(f'(?<=")({PLACEHOLDER.pattern})(?=")', text):
        quoted += [_single_quoted(text[position : found.start()]), f'"{found[1]}"']
        position = found.end()
    return "".join([*quoted, _single_quoted(text[position:])])


def _single_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _toml(clusters: Clusters, _: Sequence[_Subscription], __: str) -> str:
    return "\n".join(_toml_cluster(name, options) for name, options in clusters.items())


def _toml_cluster(name: str, options: Mapping[str, str]) -> str:
    scheme = options.get("security.protocol", "plaintext").upper()
    servers = [server.strip() for server in options["bootstrap.servers"].split(",")]
    brokers = ", ".join(_toml_string(f"{scheme}://{server}") for server in servers)
    lines = ["[[ingress.kafka-clusters]]", f"name = {_toml_string(name)}", f"brokers = [{brokers}]"]
    lines += [
        f"{_toml_string(option)} = {_toml_string(value)}"
        for option, value in _properties(options).items()
        if option != "bootstrap.servers"
    ]
    return "\n".join(lines) + "\n"


def _toml_string(text: str) -> str:
    # A JSON string is a basic string of TOML, but for DEL, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _table(subscriptions: Sequence[tuple[SubscriptionSpec, str]], clusters: Clusters) -> str:
    rows = [("SUBSCRIPTION", "CLUSTER", "TOPICS", "TARGET", "START")]
    rows += [
        (spec.name, cluster, _topics(spec), f"{spec.service}.{spec.handler}", _start(spec))
        for spec, cluster in subscriptions
    ]
    servers = [("CLUSTER", "BOOTSTRAP SERVERS")]
    servers += [(name, options["bootstrap.servers"]) for name, options in clusters.items()]
    return _aligned(rows) + "\n" + _aligned(servers)


def _topics(spec: SubscriptionSpec) -> str:
    return f"/{spec.topics.pattern}/" if isinstance(spec.topics, re.Pattern) else ", ".join(spec.topics)


def _start(spec: SubscriptionSpec) -> str:
    return spec.start.kind if spec.start.moment is None else f"{spec.start.kind} {spec.start.moment.isoformat()}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "".join(f"{line}\n" for line in lines)


def _format_limits(format: ConfigFormat, text: str) -> Iterable[str]:
    if format == "toml":
        yield (
            "restate.toml holds clusters alone, and since Restate 1.7 they are deprecated there: "
            "--format curl creates the subscriptions, and the clusters instead of this file"
        )
    names = sorted({found[2:-1] for found in PLACEHOLDER.findall(text)})
    if names and format == "curl":
        yield f"set {', '.join(names)} in the shell before you run these lines"
    elif names:
        yield f"Restate does not expand ${{…}}: put in the values of {', '.join(names)}, for example with envsubst"


_FORMATS: Mapping[str, Callable[[Clusters, Sequence[_Subscription], str], str]] = {
    "table": lambda *_: "",
    "toml": _toml,
    "json": _json,
    "curl": _curl,
}
