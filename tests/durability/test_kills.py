"""On a real broker: the application's process is killed while records flow; a checker compares what is left."""

from __future__ import annotations

from pathlib import Path

from tests.brokers import Broker
from tests.durability.checker import check
from tests.durability.rig import running
from tests.durability.traffic import KEYS

KILLS = 10
KILLS_AMID_START = (3, 6, 9)
SEED = 20_261_122


def test_ten_kills_lose_nothing_double_nothing_and_keep_the_order_of_keys(kafka_broker: Broker, tmp_path: Path) -> None:
    with running(kafka_broker, tmp_path, SEED) as rig:
        for kill in range(1, KILLS + 1):
            if kill in KILLS_AMID_START:
                rig.kill_amid_start()
            else:
                rig.kill_amid_work()
        rig.child.start()
        evidence = rig.settle()
    assert rig.child.kills == KILLS
    assert len(evidence.sent) == KEYS
    amid_work = [glimpse for glimpse in evidence.glimpses if glimpse.live and glimpse.lag]
    assert len(amid_work) >= KILLS // 2, "too few kills interrupted invocations while records were waiting"
    assert any(glimpse.reported for glimpse in evidence.glimpses), "no kill came after a report of offsets"
    assert any(glimpse.outbox for glimpse in evidence.glimpses), "no kill left messages unsent"
    assert any(entry.stamps for glimpse in evidence.glimpses for entry in glimpse.journals), "no kill came after a step"
    assert check(evidence) == []


def test_kills_and_a_broker_that_dies_meanwhile_lose_nothing_and_double_nothing(
    own_broker: Broker, tmp_path: Path
) -> None:
    with running(own_broker, tmp_path, SEED + 1) as rig:
        rig.kill_amid_work()
        rig.child.start()
        rig.run_until_progress()
        own_broker.kill()
        own_broker.start()
        rig.run_until_progress()
        rig.kill()
        rig.kill_amid_work()
        rig.child.start()
        evidence = rig.settle()
    assert rig.child.kills == 3
    assert any(glimpse.live and glimpse.lag for glimpse in evidence.glimpses), "no kill interrupted anything"
    assert check(evidence) == []
