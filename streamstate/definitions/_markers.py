"""What tells context classes apart before they exist: the context layer's classes derive from these."""

from __future__ import annotations


class ServiceMarker:
    """Derived from by `Context`, and so by every context."""

    __slots__ = ()


class SharedMarker:
    """Derived from by `ObjectSharedContext`, and so by `ObjectContext`."""

    __slots__ = ()


class ExclusiveMarker:
    """Derived from by `ObjectContext`."""

    __slots__ = ()


class WorkflowSharedMarker:
    """Derived from by `WorkflowSharedContext`, and so by `WorkflowContext`."""

    __slots__ = ()


class WorkflowMarker:
    """Derived from by `WorkflowContext`."""

    __slots__ = ()
