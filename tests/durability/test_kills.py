"""On a real broker: the application's process is killed while records flow; a checker compares what is left.

The long form runs only where STREAMSTATE_LONG_KILLS says how many kills: a tenth of them with a death of the broker.
"""

from __future__ import annotations

import logging
import os
import statistics
from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.durability.checker import check
from tests.durability.rig import running
from tests.durability.traffic import KEYS

KILLS = 10
KILLS_AMID_START = (3, 6, 9)
SEED = 20_261_122

LONG_KILLS = int(os.environ.get("STREAMSTATE_LONG_KILLS", "0"))
BURST = 6  # three hundred records a second: what is put off while everything is down must be done in the end
LONG_SETTLE_S_MAX = 600.0

_logger = logging.getLogger("tests.durability")


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
    amid_work = [glimpse for glimpse in evidence.glimpses if glimpse.has_work]
    assert len(amid_work) > KILLS // 2, "too few kills interrupted anything"
    assert any(glimpse.live and glimpse.lag for glimpse in amid_work), "no kill came while records were waiting"
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


@pytest.mark.skipif(not LONG_KILLS, reason="set STREAMSTATE_LONG_KILLS=100")
@pytest.mark.timeout(0)
def test_many_kills_and_broker_deaths_lose_nothing_and_double_nothing(own_broker: Broker, tmp_path: Path) -> None:
    with running(own_broker, tmp_path, SEED + 2, BURST) as rig:
        for kill in range(1, LONG_KILLS + 1):
            if kill % 20 == 10:
                rig.kill_amid_outage()
            elif kill % 20 == 0:
                rig.kill_after_outage()
            elif kill % 20 in (5, 15):
                rig.kill_amid_start()
            else:
                rig.kill_amid_work()
        rig.start_and_recover()
        evidence = rig.settle(LONG_SETTLE_S_MAX)
    assert rig.child.kills == LONG_KILLS
    amid_work = [glimpse for glimpse in evidence.glimpses if glimpse.has_work]
    recovery = sorted(rig.recoveries_s)
    p50, p95 = statistics.median(recovery), statistics.quantiles(recovery, n=20)[-1]
    _logger.info("%d kills, %d of them amid work, %d records", LONG_KILLS, len(amid_work), sum(evidence.sent.values()))
    _logger.info("from start to first records: p50 %.2f s, p95 %.2f s, max %.2f s", p50, p95, recovery[-1])
    _logger.info(
        "%d step runs, %d sleeps, %d calls, %d delayed sends, %d messages",
        *map(len, (evidence.steps, evidence.rested, evidence.answered, evidence.reminded, evidence.published)),
    )
    assert len(amid_work) > LONG_KILLS * 2 // 3, "too few kills interrupted anything"
    assert check(evidence) == []
