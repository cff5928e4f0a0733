"""Subscriptions as configuration for a Restate server, against golden files."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import pytest

from streamstate.definitions import Policies, RetryPolicy, Skip, Start, SubscriptionSpec
from streamstate.errors import UsageError
from streamstate.ingress._subscription_config import ConfigFormat, render

GOLDEN = Path(__file__).parent / "golden"

CLUSTERS: Mapping[str, Mapping[str, str]] = {
    "main": {
        "bootstrap.servers": "kafka-1:9092, kafka-2:9092",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "${SASL_USERNAME}",
        "sasl.password": "${SASL_PASSWORD}",
        "ssl.ca.location": 'C:\\it\'s "ours"\\ca.pem',
    },
    "edge": {"bootstrap.servers": "edge:9092"},
}

PLAIN = SubscriptionSpec(
    name="shop.Driver.moved",
    topics=("driver-updates",),
    cluster="main",
    service="Driver",
    handler="moved",
    key=None,
    value=None,
    start=Start.latest(),
    policies=Policies(),
    retry=None,
    max_in_flight=10_000,
    site="shop.py:12",
)

SUBSCRIPTIONS = [
    PLAIN,
    replace(
        PLAIN,
        name="orders",
        topics=("orders", "orders-old"),
        cluster="edge",
        service="Order",
        handler="create",
        start=Start.at(datetime(2026, 11, 1, 12, tzinfo=UTC)),
        policies=Policies(on_null_key=Skip(), on_tombstone=Skip(), on_undecodable=Skip()),
        retry=RetryPolicy(initial=timedelta(seconds=1)),
        max_in_flight=50,
        options={"fetch.min.bytes": "10"},
    ),
    replace(PLAIN, name="by-customer", key=lambda record: record.topic, start=Start.earliest()),
    replace(PLAIN, name="audits", topics=re.compile(r"audit-\d+"), start=Start.earliest()),
]


@pytest.mark.parametrize("format", get_args(ConfigFormat))
def test_each_format_renders_what_its_golden_file_holds(format: ConfigFormat) -> None:
    assert render(format, SUBSCRIPTIONS, CLUSTERS).text == (GOLDEN / f"subscriptions.{format}").read_text("utf-8")


@pytest.mark.parametrize("format", get_args(ConfigFormat))
def test_what_restate_does_otherwise_is_named_in_the_order_of_the_golden_file(format: ConfigFormat) -> None:
    warnings = render(format, SUBSCRIPTIONS, CLUSTERS).warnings
    assert "\n".join([*warnings, ""]) == (GOLDEN / f"warnings-{format}.txt").read_text("utf-8")


def test_the_json_is_json_with_one_topic_a_subscription() -> None:
    document = json.loads(render("json", SUBSCRIPTIONS, CLUSTERS).text)
    assert [body["source"] for body in document["subscriptions"]] == [
        "kafka://main/driver-updates",
        "kafka://edge/orders",
        "kafka://edge/orders-old",
    ]
    assert {body["options"]["group.id"] for body in document["subscriptions"]} == {"shop.Driver.moved", "orders"}


def test_the_toml_reads_back_as_the_options_of_the_clusters() -> None:
    main, edge = tomllib.loads(render("toml", SUBSCRIPTIONS, CLUSTERS).text)["ingress"]["kafka-clusters"]
    assert main.pop("brokers") == ["SASL_SSL://kafka-1:9092", "SASL_SSL://kafka-2:9092"]
    assert main == {"name": "main"} | {k: v for k, v in CLUSTERS["main"].items() if k != "bootstrap.servers"}
    assert edge == {"name": "edge", "brokers": ["PLAINTEXT://edge:9092"]}


def test_a_shell_that_runs_the_curl_lines_expands_secrets_and_nothing_else() -> None:
    nasty = {"bootstrap.servers": "b:9092", "sasl.password": "${SASL_PASSWORD}", "client.rack": "it's $HOME `id` ${A}b"}
    text = render("curl", [], {"main": nasty}).text
    show = "curl() { for word; do last=$word; done; printf '%s' \"$last\"; }\n"
    environment = {"SASL_PASSWORD": "it's $secret; `id`", "HOME": "home", "A": "a"}
    run = subprocess.run(["sh", "-c", show + text], env=environment, capture_output=True, check=True, text=True)
    assert json.loads(run.stdout)["properties"] == {**nasty, "sasl.password": environment["SASL_PASSWORD"]}


@pytest.mark.parametrize("format", get_args(ConfigFormat))
@pytest.mark.parametrize(
    "option", ["sasl.password", "ssl.key.password", "sasl.oauthbearer.client.secret", "sasl.username"]
)
def test_a_secret_that_arrives_unredacted_is_not_shown(format: ConfigFormat, option: str) -> None:
    clusters = {"main": {"bootstrap.servers": "b:9092", option: "hunter2"}}
    subscription = replace(PLAIN, options={option: "hunter2"})
    rendered = render(format, [subscription], clusters)
    assert "hunter2" not in rendered.text + "".join(rendered.warnings)


def test_curl_lines_go_to_the_given_admin_url() -> None:
    text = render("curl", [PLAIN], CLUSTERS, admin_url="https://restate.example:9070/").text
    assert re.findall(r"https://\S+", text) == [
        "https://restate.example:9070/kafka-clusters",
        "https://restate.example:9070/kafka-clusters",
        "https://restate.example:9070/subscriptions",
    ]


def test_a_subscription_without_a_cluster_reads_from_the_only_one() -> None:
    subscription = replace(PLAIN, cluster=None)
    document = json.loads(render("json", [subscription], {"edge": CLUSTERS["edge"]}).text)
    assert [body["source"] for body in document["subscriptions"]] == ["kafka://edge/driver-updates"]


def test_no_subscriptions_and_no_clusters_render_to_nothing() -> None:
    assert [render(format, [], {}).text for format in ("toml", "curl")] == ["", ""]
    assert json.loads(render("json", [], {}).text) == {"kafka-clusters": [], "subscriptions": []}


@pytest.mark.parametrize(
    ("subscription", "named"),
    [(replace(PLAIN, cluster="mian"), "names cluster 'mian'"), (replace(PLAIN, cluster=None), "names no cluster")],
)
def test_a_cluster_that_is_not_there_is_refused_with_those_that_are(subscription: SubscriptionSpec, named: str) -> None:
    with pytest.raises(UsageError, match=rf"subscription shop\.Driver\.moved {named}.*: main, edge — at shop\.py:12"):
        render("json", [subscription], CLUSTERS)


def test_a_format_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError, match=r"no format is named 'yaml'; there are table, toml, json, curl"):
        render("yaml", [PLAIN], CLUSTERS)  # type: ignore[arg-type]  # the wrong argument is the test
