from __future__ import annotations

import json
from pathlib import Path

from streamstate_kafka.testing import MockCluster
from tests.cli.support import shop, streamstate

TWO_CLUSTERS = """
from streamstate import App, Context, Service, subscribe
from streamstate_kafka import Kafka

audit = Service("Audit")


@subscribe("orders", name="unresolved")
@subscribe("orders", name="elsewhere", cluster="moon")
@subscribe("orders", cluster="b", options={"group.id": "mine"})
@audit.handler
async def note(ctx: Context, order: str) -> None: ...


connectors = []
app = App([audit], name="audits", connectors=connectors)
for name in ("a", "b"):
    app.connectors[name] = Kafka("broker:9092", name=name)
lonely = App([audit], name="lonely")
"""


def test_offline_nothing_is_connected_to(project: Path) -> None:
    shop(project)
    result = streamstate("check", "shop:app", "--offline")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "Driver.moved  exclusive  JsonSerde(Location)" in result.stdout
    assert "shop.py:15" in result.stdout
    assert "drivers.Driver.moved  driver-updates  kafka    Driver.moved  earliest" in result.stdout
    assert "broker:9092  not checked" in result.stdout
    assert "no problems found" in result.stdout


def test_a_cluster_with_all_its_topics_is_as_it_should_be(project: Path, cluster: MockCluster) -> None:
    cluster.create_topics("driver-updates")
    shop(project, cluster.bootstrap_servers)
    result = streamstate("check", "shop:app")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "as it should be" in result.stdout


def test_a_broker_that_is_not_there_is_a_problem(project: Path, nobody: str) -> None:
    shop(project, nobody)
    result = streamstate("check", "shop:app")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Problem: Kafka 'kafka' at {nobody} cannot be used: no answer within 5 s")
    assert "has problems" in result.stdout
    assert "s3cret" not in result.output


def test_a_topic_that_is_not_there_is_a_problem(project: Path) -> None:
    with MockCluster() as empty:
        shop(project, empty.bootstrap_servers)
        result = streamstate("check", "shop:app")
    assert result.exit_code == 1
    assert "Problem: topic 'driver-updates' is not on Kafka 'kafka'" in result.stderr
    assert "--create --topic driver-updates" in result.stderr


def test_each_subscription_whose_cluster_or_options_are_wrong_is_a_problem(project: Path) -> None:
    (project / "shop.py").write_text(TWO_CLUSTERS, encoding="utf-8")
    result = streamstate("check", "shop:app", "--offline")
    assert result.exit_code == 1
    assert "subscription unresolved names no cluster; App 'audits' has: 'a', 'b'" in result.stderr
    assert "subscription elsewhere is on cluster 'moon'" in result.stderr
    assert "the option 'group.id' cannot be set" in result.stderr
    assert result.stderr.count("Problem: ") == 3
    assert "no problems found" not in result.stdout


def test_an_app_with_subscriptions_needs_a_connector(project: Path) -> None:
    (project / "shop.py").write_text(TWO_CLUSTERS, encoding="utf-8")
    for command in ("check", "run"):
        result = streamstate(command, "shop:lonely")
        assert result.exit_code == 1
        assert "App 'lonely' has: none. Pass App(…, connectors=[Kafka(…)])" in result.stderr


def test_json_has_everything_and_no_secret(project: Path, nobody: str) -> None:
    shop(project, nobody)
    result = streamstate("check", "shop:app", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert found["app"] == "drivers"
    assert [handler["target"] for handler in found["handlers"]] == ["Driver.moved", "Driver.where"]
    assert found["subscriptions"][0]["topics"] == ["driver-updates"]
    assert found["clusters"][0]["options"]["sasl.password"] == "${SASL_PASSWORD}"
    assert found["clusters"][0]["is_checked"] is True
    assert len(found["problems"]) == 1
    assert f"Problem: {found['problems'][0]}\n" == result.stderr


def test_json_says_what_was_not_checked(project: Path) -> None:
    shop(project)
    found = json.loads(streamstate("check", "shop:app", "--json", "--offline").stdout)
    assert found["clusters"][0]["is_checked"] is False
    assert found["problems"] == []
