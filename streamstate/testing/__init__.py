"""Tests of applications: an environment without network and disk, a clock that stands still, topics in memory."""

from streamstate.storage import MemoryStore
from streamstate.testing._clock import VirtualClock
from streamstate.testing._environment import Environment, ObjectState
from streamstate.testing._topics import MemoryTopics, TestTopic

__all__ = ["Environment", "MemoryStore", "MemoryTopics", "ObjectState", "TestTopic", "VirtualClock"]
