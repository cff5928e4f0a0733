"""The public names, pinned: a change here is a change for users, and belongs in CHANGELOG.md."""

from __future__ import annotations

import importlib

import pytest

PUBLIC_NAMES: dict[str, list[str]] = {
    "streamstate": [
        "App",
        "Awakeable",
        "CancelledError",
        "Context",
        "DeadLetter",
        "Deliver",
        "DurablePromise",
        "EngineOptions",
        "Invocation",
        "Keep",
        "LocalClient",
        "LocalInvocation",
        "ObjectContext",
        "ObjectHandler",
        "ObjectSharedContext",
        "Pause",
        "Record",
        "Retention",
        "RetryPolicy",
        "RetryableError",
        "Running",
        "Service",
        "ServiceHandler",
        "Skip",
        "Start",
        "StateKey",
        "Step",
        "Stop",
        "StreamstateError",
        "TerminalError",
        "Topic",
        "VirtualObject",
        "Workflow",
        "WorkflowContext",
        "WorkflowHandler",
        "WorkflowSharedContext",
        "subscribe",
    ],
    "streamstate.errors": [
        "CallCycleError",
        "CancelledError",
        "CommitFailedError",
        "DefinitionError",
        "ForeignAwaitError",
        "HandlerFault",
        "InputError",
        "InvocationPausedError",
        "JournalMismatchError",
        "NotFoundError",
        "RetryableError",
        "RunawayTurnError",
        "SerdeError",
        "SinkError",
        "SourceError",
        "StorageCorruptError",
        "StorageError",
        "StorageFormatError",
        "StorageInUseError",
        "StreamstateError",
        "SubscriptionStoppedError",
        "TerminalError",
        "Unavailable",
        "UsageError",
    ],
    "streamstate.serde": [
        "BytesSerde",
        "EmptySerde",
        "JsonSerde",
        "Serde",
        "StringSerde",
        "quick_codec",
        "serde_for",
    ],
    "streamstate.testing": [
        "Environment",
        "MemoryStore",
        "MemoryTopics",
        "ObjectState",
        "TestTopic",
        "VirtualClock",
    ],
    "streamstate_kafka": [
        "Capability",
        "Fault",
        "FaultKind",
        "Fetched",
        "Kafka",
        "KafkaClient",
        "Reader",
        "Writer",
    ],
}


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_a_public_module_exports_exactly_the_pinned_names(name: str) -> None:
    module = importlib.import_module(name)
    assert sorted(module.__all__) == PUBLIC_NAMES[name]


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_every_exported_name_is_there(name: str) -> None:
    module = importlib.import_module(name)
    assert [export for export in module.__all__ if not hasattr(module, export)] == []
