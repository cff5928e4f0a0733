"""The schemas of the topics, made from the types: `python -m food_ordering.schemas FOLDER` writes them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from food_ordering.model import (
    DriverPosition,
    DriverTask,
    DriverUpdate,
    OrderEvent,
    RestaurantAnswer,
    RestaurantRequest,
    StatusChange,
)

TOPICS: Mapping[str, object] = {
    "orders": OrderEvent,
    "order-status": StatusChange,
    "restaurant-requests": RestaurantRequest,
    "restaurant-answers": RestaurantAnswer,
    "driver-tasks": DriverTask,
    "driver-updates": DriverUpdate,
    "driver-positions": DriverPosition,
}


def json_schema(topic: str) -> str:
    """The JSON Schema of a topic's values, as text."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(TOPICS[topic])}
    for definition in schema["$defs"].values():
        if "description" in definition:
            definition["description"] = definition["description"].partition("\n")[0]
    return json.dumps(schema, indent=2) + "\n"


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m food_ordering.schemas FOLDER")
    for topic in TOPICS:
        Path(sys.argv[1], f"{topic}.json").write_text(json_schema(topic), encoding="utf-8")


if __name__ == "__main__":
    main()
