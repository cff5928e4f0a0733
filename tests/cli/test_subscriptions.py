from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from tests.cli.support import shop, streamstate


@pytest.fixture(autouse=True)
def app(project: Path) -> None:
    shop(project)


def test_the_table_is_for_people_and_warnings_go_to_standard_error() -> None:
    result = streamstate("subscriptions", "shop:app")
    assert result.exit_code == 0
    assert "drivers.Driver.moved  kafka    driver-updates  Driver.moved  earliest" in result.stdout
    assert "kafka    broker:9092" in result.stdout
    assert "Warning: on_null_key=Stop() of drivers.Driver.moved has no equal on Restate" in result.stderr
    assert "Warning" not in result.stdout


def test_toml_is_toml_without_secrets() -> None:
    result = streamstate("subscriptions", "shop:app", "--format", "toml")
    (cluster,) = tomllib.loads(result.stdout)["ingress"]["kafka-clusters"]
    assert cluster == {"name": "kafka", "brokers": ["PLAINTEXT://broker:9092"], "sasl.password": "${SASL_PASSWORD}"}
    assert "s3cret" not in result.output


@pytest.mark.parametrize("options", [("--json",), ("--format", "json"), ("--json", "--format", "json")])
def test_json_is_asked_for_in_two_ways(options: tuple[str, ...]) -> None:
    document = json.loads(streamstate("subscriptions", "shop:app", *options).stdout)
    assert document["subscriptions"][0]["source"] == "kafka://kafka/driver-updates"


def test_curl_lines_go_to_the_admin_url_that_was_given() -> None:
    given = streamstate("subscriptions", "shop:app", "--format", "curl", "--admin-url", "http://restate:9070/")
    assert "curl --fail -X POST http://restate:9070/subscriptions " in given.stdout
    assert "http://localhost:9070/subscriptions" in streamstate("subscriptions", "shop:app", "--format", "curl").stdout


def test_a_format_that_is_not_there_is_wrong_usage() -> None:
    result = streamstate("subscriptions", "shop:app", "--format", "yaml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "'yaml' is not one of 'table', 'toml', 'json', 'curl'" in result.stderr


def test_two_formats_at_once_are_wrong_usage() -> None:
    result = streamstate("subscriptions", "shop:app", "--json", "--format", "toml")
    assert result.exit_code == 2
    assert "--json and --format toml exclude each other" in result.stderr


def test_an_app_without_connectors_is_told_which_subscription_has_no_cluster(project: Path) -> None:
    source = (project / "shop.py").read_text("utf-8")
    (project / "bare.py").write_text(source + "\nbare = App([drivers], name='bare')\n", encoding="utf-8")
    result = streamstate("subscriptions", "bare:bare")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "subscription bare.Driver.moved names no cluster; the App's connectors are: none" in result.stderr
