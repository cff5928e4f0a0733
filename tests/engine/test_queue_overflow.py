"""A key's queue that is longer than what memory keeps of it, at the moments when the rest is read on (K1, I4, I9)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import pytest

from streamstate import Context, ObjectContext, Record, Service, VirtualObject, subscribe
from streamstate.definitions import HandlerSpec
from tests.engine.process import Process


class Queue:
    """One key, of whose queue two are kept in memory; each of its handlers ends when it is told to."""

    def __init__(self) -> None:
        patch = pytest.MonkeyPatch()
        patch.setattr("streamstate.engine._core.QUEUE_IN_MEMORY_MAX", 2)
        logs, posts = VirtualObject("Log"), Service("Post")
        self.seen: list[int] = []

        @subscribe("events", name="events")
        @logs.handler
        async def enter(ctx: ObjectContext, number: int) -> None:
            self.seen.append(number)
            if number < 100:
                assert await ctx.signal("go", str) == "now"

        @posts.handler
        async def tell(ctx: Context, invocation: str) -> None:
            ctx.invocation(invocation).signal("go").resolve("now")

        self._enter, self._tell = enter.spec, tell.spec
        self.process = Process([logs, posts], patch)
        self.process.start()
        self._intake = self.process.intake(self.process.running.engine.program.subscriptions[0])
        self._offset = 0

    def send(self, number: int) -> str:
        """Put one into the queue, from a caller."""
        return self._accept(self._enter, "k", number)

    def feed(self, number: int) -> None:
        """Put one into the queue, from a topic."""
        self._intake.take([Record("test", 0, self._offset, 0, b"k", b"%d" % number)], {})
        self._offset += 1
        self.process.running.engine._kick()

    def tell(self, invocation: str) -> None:
        """Let one end; nothing of it is durable yet."""
        self._accept(self._tell, "", invocation)
        self.process.loop.spin(2)

    def waiting(self) -> list[int]:
        """The queue in the store, in its order."""
        rows = self.process.store.invocations.lane("Log", "k", 0, 100)
        return [msgspec.json.decode(row.input, type=int) for row in rows]

    def _accept(self, spec: HandlerSpec, key: str, body: object) -> str:
        engine = self.process.running.engine
        invocation, _ = engine._accept(spec, key, msgspec.json.encode(body), None, None, None)
        engine._kick()
        return invocation


@pytest.fixture
def queue() -> Iterator[Queue]:
    queue = Queue()
    yield queue
    queue.process.close()


def test_the_rest_of_a_queue_is_read_on_when_its_part_in_memory_is_used_up(queue: Queue) -> None:
    sent = [queue.send(number) for number in range(6)]
    queue.process.settle()
    assert len(queue.process.running.engine.core.live) == 3
    for number, invocation in enumerate(sent):
        assert queue.waiting() == list(range(number, 6))
        queue.tell(invocation)
        queue.process.settle()
    assert queue.seen == list(range(6))
    assert queue.waiting() == []


def test_what_arrived_for_one_far_back_is_there_when_the_queue_comes_to_it(queue: Queue) -> None:
    """The row that is read does not show the arrival yet, since its batch is not durable; the one in memory has it."""
    sent = [queue.send(number) for number in range(4)]
    queue.process.settle()
    for invocation in sent[:2]:
        queue.tell(invocation)
        queue.process.settle()
    core, writer = queue.process.running.engine.core, queue.process.writer
    queue.tell(sent[2])
    assert sent[3] not in core.live, "it waits in the store only"
    queue.tell(sent[3])  # while the end of the one before is being written
    assert len(core.live[sent[3]].inbox) == 1
    assert writer.write()
    queue.process.loop.spin(1)
    assert queue.waiting() == [3]
    queue.process.settle()
    assert queue.seen == [0, 1, 2, 3]
    assert queue.waiting() == [], "the signal was lost, and it waits for ever"


@pytest.mark.parametrize("door", [Queue.send, Queue.feed], ids=["a call", "a record"])
@pytest.mark.parametrize("is_quick", [False, True], ids=["blocks", "ends at once"])
def test_an_input_that_comes_before_the_rest_is_read_on_waits_behind_it(
    queue: Queue, door: Callable[[Queue, int], object], is_quick: bool
) -> None:
    sent = [queue.send(number) for number in range(4)]
    queue.process.settle()
    for invocation in sent[:2]:
        queue.tell(invocation)
        queue.process.settle()
    last = 100 if is_quick else 4
    queue.tell(sent[2])  # its end is not durable yet, so the rest of the queue cannot be read
    door(queue, last)
    queue.process.loop.spin(3)
    queue.process.settle()
    queue.tell(sent[3])
    queue.process.settle()
    assert queue.seen == [0, 1, 2, 3, last]


def test_a_queue_goes_on_in_order_while_every_batch_brings_it_another_input(queue: Queue) -> None:
    """I9: the key must not wait for a moment when nothing of it is being written."""
    sent = [queue.send(number) for number in range(4)]
    queue.process.settle()
    told = 0
    for number in range(4, 40):
        while told < len(queue.seen):
            queue.tell(sent[told])
            told += 1
        sent.append(queue.send(number))
        queue.process.loop.spin(1)
        queue.process.writer.write()
        queue.process.loop.spin(1)
    assert queue.seen == list(range(len(queue.seen)))
    assert len(queue.seen) > 10
