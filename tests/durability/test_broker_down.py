"""The publish side of an outage: work goes on, messages wait in the store, and all of them arrive in order."""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from pathlib import Path

import msgspec

from streamstate import App, ObjectContext, StateKey, Topic, VirtualObject
from streamstate.engine._outbox import CHUNK_MAX, IN_MEMORY_MAX
from streamstate_kafka import Kafka
from tests.brokers import Broker
from tests.durability import gathering
from tests.durability.plan import PARTITIONS

KEYS = [f"press-{number}" for number in range(20)]
ROUNDS, COPIES = 30, 100
ARRIVE_S_MAX = 60.0
PROMPT = {"reconnect.backoff.max.ms": "500"}


class Page(msgspec.Struct):
    sequence: int


PRINTED = StateKey[int]("printed", default=0)

presses = VirtualObject("Press")
OUTPUT_HEADER = "output"


@presses.handler
async def print_pages(ctx: ObjectContext, copies: int) -> int:
    printed = await ctx.get(PRINTED)
    output = Topic[Page](ctx.headers[OUTPUT_HEADER])
    for sequence in range(printed + 1, printed + copies + 1):
        ctx.publish(output, Page(sequence), key=ctx.key)
    ctx.set(PRINTED, printed + copies)
    return printed + copies


def waiting_in(data: Path) -> int:
    with gathering.snapshot(data) as store:
        return gathering.count_in(store, gathering.OUTBOX)


async def test_with_the_broker_down_work_goes_on_and_its_messages_wait_in_the_store_and_arrive_in_order(
    own_broker: Broker, tmp_path: Path
) -> None:
    topic, data = f"pages-{uuid.uuid4().hex[:8]}", tmp_path / "data"
    own_broker.create_topic(topic, PARTITIONS)
    headers = {OUTPUT_HEADER: topic}
    app = App([presses], name="printing", connectors=[Kafka(own_broker.bootstrap_servers, options=PROMPT)])
    async with app.embedded(data) as running:

        async def print_everywhere(copies: int) -> list[int]:
            calls = (running.client.call(print_pages, copies, key=key, headers=headers) for key in KEYS)
            return await asyncio.gather(*calls)

        assert await print_everywhere(1) == [1] * len(KEYS)
        await running.engine.idle()
        assert waiting_in(data) == 0
        await asyncio.to_thread(own_broker.stop)
        try:
            for done in range(1, ROUNDS + 1):
                assert await print_everywhere(COPIES) == [1 + done * COPIES] * len(KEYS)
            assert waiting_in(data) == len(KEYS) * ROUNDS * COPIES > IN_MEMORY_MAX + CHUNK_MAX
            assert len(running.engine.core.outbox.relays["kafka"]._waiting) <= IN_MEMORY_MAX
        finally:
            await asyncio.to_thread(own_broker.start)
        async with asyncio.timeout(ARRIVE_S_MAX):
            await running.engine.idle()
        assert waiting_in(data) == 0
    published = await asyncio.to_thread(gathering.published, own_broker, topic, PARTITIONS)
    first_of: defaultdict[str, dict[int, str]] = defaultdict(dict)
    for message in sorted(published, key=lambda each: (each.partition, each.offset)):
        key, sequence = message.event
        assert first_of[key].setdefault(sequence, message.message_id) == message.message_id
    every = list(range(1, 1 + ROUNDS * COPIES + 1))
    assert {key: list(first) for key, first in first_of.items()} == dict.fromkeys(KEYS, every)
