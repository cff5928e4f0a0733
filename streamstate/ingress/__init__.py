"""Where events come in: the source port, the feeding of records to the engine, subscriptions as configuration."""

from streamstate.ingress._feed import Feed
from streamstate.ingress._ports import Connector, Owned, Owner, PartitionId, Records, Source, SourceStopped, TakenOver
from streamstate.ingress._subscription_config import SubscriptionConfig, render

__all__ = [
    "Connector",
    "Feed",
    "Owned",
    "Owner",
    "PartitionId",
    "Records",
    "Source",
    "SourceStopped",
    "SubscriptionConfig",
    "TakenOver",
    "render",
]
