"""Where events come in: the source port, the feeding of records to the engine, subscriptions as configuration."""

from streamstate.ingress._feed import Feed
from streamstate.ingress._ports import Connector, PartitionId, Records, Source, SourceStopped
from streamstate.ingress._subscription_config import SubscriptionConfig, render

__all__ = [
    "Connector",
    "Feed",
    "PartitionId",
    "Records",
    "Source",
    "SourceStopped",
    "SubscriptionConfig",
    "render",
]
