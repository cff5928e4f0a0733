"""Stand-ins for the contexts, which are in a layer above: the same names and the same inheritance."""

from __future__ import annotations

from streamstate.definitions import ExclusiveMarker, ServiceMarker, SharedMarker, WorkflowMarker, WorkflowSharedMarker


class Context(ServiceMarker):
    """What handlers of services take."""


class ObjectSharedContext(Context, SharedMarker):
    """What shared handlers of virtual objects take."""


class ObjectContext(ObjectSharedContext, ExclusiveMarker):
    """What exclusive handlers of virtual objects take."""


class WorkflowSharedContext(Context, WorkflowSharedMarker):
    """What shared handlers of workflows take."""


class WorkflowContext(WorkflowSharedContext, WorkflowMarker):
    """What main handlers of workflows take."""
