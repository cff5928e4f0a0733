"""The schemas that lie beside the code say what the code does."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import pytest

from food_ordering.model import DriverPosition, DriverUpdate, Location, Progress
from food_ordering.schemas import TOPICS, json_schema

FOLDER = Path(__file__).parents[2] / "schemas"
HERE = Location(0.25, -1)


@pytest.mark.parametrize("topic", TOPICS)
def test_the_json_schema_of_a_topic_is_up_to_date(topic: str) -> None:
    stored = (FOLDER / f"{topic}.json").read_text(encoding="utf-8")
    assert stored == json_schema(topic), "write them again: python -m food_ordering.schemas schemas"


@pytest.mark.parametrize(
    ("topic", "value"),
    [
        ("driver-updates", DriverUpdate(7, "north", HERE, Progress.PICKED_UP, "order-1")),
        ("driver-updates", DriverUpdate(7, "north", HERE, Progress.AVAILABLE)),
        ("driver-positions", DriverPosition(7, HERE, 7, "0f" * 8)),
    ],
)
def test_the_avro_schema_of_a_topic_carries_its_values(topic: str, value: Any) -> None:
    schema = fastavro.parse_schema(json.loads((FOLDER / f"{topic}.avsc").read_text(encoding="utf-8")))
    there = io.BytesIO()
    fastavro.schemaless_writer(there, schema, msgspec.to_builtins(value), strict=True)
    there.seek(0)
    back = fastavro.schemaless_reader(there, schema, None)
    assert msgspec.convert(back, type(value)) == value
