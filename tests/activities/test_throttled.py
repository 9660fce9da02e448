"""Transfers without a mover keep to the limits of their repository, live while they wait, and can be stopped."""

import re
import threading
from itertools import pairwise

import pytest
from temporalio.exceptions import CancelledError

from activities.contracts.rollback import RollBackDisk
from activities.point_disks import PointDisks
from activities.rollback import RollbackActivities
from activities.transfer import TransferActivities
from holdfast.clock import SystemClock
from holdfast.model.ids import RepositoryName
from holdfast.mover.client import MoverClient
from holdfast.pipeline.throttle import Throttle
from holdfast.planning.throttling import Limits, RepositoryLimits
from tests.activities.lab import EAGER, KEY, PIECE, PROVIDER, STORE, TOKEN, UNIT, Attempt, Lab, run
from tests.holdfast.mover.movers import until

CLOCK = SystemClock()


class Limited:
    """Activities of a proxy that keeps to limits."""

    def __init__(self, lab: Lab, **limits: int) -> None:
        self.lab = lab
        self.throttle = Throttle(CLOCK)
        self.hold(**limits)
        passphrases, dial = lab.credentials.passphrase, MoverClient(None, CLOCK).line
        points = PointDisks(lab.open_repository, passphrases, dial, CLOCK, EAGER, throttle=self.throttle)
        self.transfers = TransferActivities(lab.open_provider, points, CLOCK, EAGER)
        self.rollbacks = RollbackActivities(lab.open_provider, points, CLOCK)

    def hold(self, **limits: int) -> None:
        self.throttle.change(Limits(repositories={RepositoryName(STORE): RepositoryLimits(**limits)}))


def test_a_backup_keeps_to_the_write_limit_and_a_restore_to_the_read_limit(lab: Lab) -> None:
    machine = lab.add_machine("web 01", 60 * PIECE)  # 2.5 MiB of it are data
    limited = Limited(lab, write_bytes_s=1 << 20, read_bytes_s=1 << 30)
    request = lab.begun(machine)
    copied = run(limited.transfers.copy_disk, request)
    point = lab.finish(request.point)
    expected_s = (copied.figures.transferred_bytes - UNIT) / (1 << 20) - 0.1
    assert expected_s * 0.9 <= copied.figures.duration_s
    assert expected_s * 0.8 <= copied.busy["throttled"] <= copied.figures.duration_s
    assert re.fullmatch(r"waited \d s for its share of write limit of repository store", copied.slowed)
    limited.hold(read_bytes_s=1 << 20, write_bytes_s=1)
    restored = run(limited.transfers.restore_disk, lab.restore_request(lab.prepare(machine), point))
    assert expected_s * 0.8 <= restored.busy["throttled"] <= restored.figures.duration_s
    assert re.fullmatch(r"waited \d s for its share of read limit of repository store", restored.slowed)
    assert limited.throttle.held() == []


def test_without_limits_nobody_waits(lab: Lab) -> None:
    limited = Limited(lab)
    machine = lab.add_machine()
    request = lab.begun(machine)
    copied = run(limited.transfers.copy_disk, request)
    assert (copied.slowed, copied.busy["throttled"]) == ("", 0.0)
    assert limited.throttle.held() == []


def test_a_copy_that_waits_for_its_share_lives_and_stops_when_it_is_told_to(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activities.pulse._INTERVAL_S", 0.1)
    monkeypatch.setattr("activities.transfer.STALL_S", 0.4)
    limited = Limited(lab, write_bytes_s=UNIT // 20)  # a unit in twenty seconds
    attempt, times = Attempt(), [CLOCK.monotonic_s()]
    attempt.on_beat = lambda _: times.append(CLOCK.monotonic_s())
    request = lab.begun(lab.add_machine())
    ended: list[BaseException] = []

    def work() -> None:
        try:
            attempt.run(limited.transfers.copy_disk, request)
        except CancelledError as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: len(times) > 6, "the copy reports every second while it waits", 20.0)
    assert max(later - earlier for earlier, later in pairwise(times[2:])) < 3.0
    assert [held.because for held in limited.throttle.held()] == ["write limit of repository store"]
    attempt.environment.cancel()
    thread.join(5.0)
    assert not thread.is_alive()
    assert len(ended) == 1
    assert limited.throttle.held() == []


def test_a_rollback_keeps_to_the_read_limit(lab: Lab) -> None:
    machine = lab.add_machine("web 01", 60 * PIECE)
    _, point = lab.back_up(machine)
    lab.overwrite(machine, 0, 20 * PIECE)
    limited = Limited(lab, read_bytes_s=1 << 19)
    target = lab.provider.prepare_in_place(TOKEN, machine.machine_id, machine.disks)
    request = RollBackDisk(
        provider=PROVIDER,
        target_id=target.target_id,
        disk=KEY,
        repository=STORE,
        chain=point.chain,
        number=point.number,
        compare=False,
    )
    done = run(limited.rollbacks.roll_back_disk, request)
    assert done.slowed.endswith("share of read limit of repository store")
    assert done.busy["throttled"] > 0.5
