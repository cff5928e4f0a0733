"""The worker of the food-ordering demo with the other client: `python -m tests.kafka.conformance.aiokafka_worker`."""

from __future__ import annotations

from functools import partial

from food_ordering import worker
from streamstate_kafka import Kafka

if __name__ == "__main__":
    setattr(worker, "Kafka", partial(Kafka, client="aiokafka"))  # noqa: B010 - it is no public name of that module
    worker.main()
