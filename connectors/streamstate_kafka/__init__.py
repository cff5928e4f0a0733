"""Kafka for streamstate: sources for subscriptions and the sink for durable publishing."""

from streamstate_kafka._client import Capability, Fault, FaultKind, Fetched, KafkaClient, Reader, Writer
from streamstate_kafka._kafka import Kafka

__all__ = ["Capability", "Fault", "FaultKind", "Fetched", "Kafka", "KafkaClient", "Reader", "Writer"]
