"""Machines are backed up over leases alone: what is stored is what they held, and no lease is left."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.model.session import Outcome
from tests.lab.vcenter.client import MIB
from tests.scenarios.vsphere.installation import LEASE
from tests.scenarios.vsphere.stage import Stage
from tests.scenarios.vsphere.test_killed_proxy import DELAY_MS, NAME, Proxy, configuration

pytestmark = [pytest.mark.slow, pytest.mark.temporal, pytest.mark.vsphere]

LARGE = 24
"""MiB of a disk of which much is unread when its first unit is written."""


@pytest.fixture
def proxy(installation: Stage, tmp_path: Path) -> Iterator[Proxy]:
    """A process that knows the provider with leases alone."""
    config = tmp_path / "holdfast.toml"
    config.write_text(configuration(installation, LEASE), "utf-8")
    proxy = Proxy(config, tmp_path / "proxy.log")
    yield proxy
    proxy.kill()


async def test_a_full_and_an_increment_hold_the_same_bytes_also_above_a_snapshot_of_others(stage: Stage) -> None:
    machine = stage.machine("leased", LARGE, 3)
    first = await stage.run(stage.backup(machine, LEASE))
    assert first.session.outcome is Outcome.SUCCESS
    assert stage.stored(machine) == stage.content(machine)
    by_hand = stage.vc.snapshot(stage.vm(machine), "by hand")
    stage.write(machine, 5 * MIB)
    stage.write(machine, 0, 700, disk=1)
    files = stage.files()
    result = await stage.run(stage.backup(machine, LEASE))
    assert result.points[0].kind == "increment"
    assert stage.stored(machine) == stage.content(machine)
    assert stage.leases() == 0
    stage.expect_nothing_left(files)
    stage.vc.remove(by_hand)
    await stage.expect_sound(machine)


async def test_streams_that_break_are_gone_on_with(stage: Stage) -> None:
    machine = stage.machine("torn", LARGE)
    for after in (5 * MIB, 11 * MIB):
        stage.fault("nfc:GET", "drop", after_bytes=after)
    result = await stage.run(stage.backup(machine, LEASE))
    assert result.session.outcome is Outcome.SUCCESS
    assert stage.stored(machine) == stage.content(machine)
    assert stage.leases() == 0
    await stage.expect_sound(machine)


async def test_a_session_and_a_lease_that_end_in_the_middle_are_begun_anew(stage: Stage) -> None:
    machine = stage.machine("ended", LARGE)
    async with stage.in_the_middle(stage.backup(machine, LEASE)) as handle:
        stage.expire_sessions()
        stage.time_leases_out()
    result = await handle.result()
    assert result.session.outcome is Outcome.SUCCESS
    assert stage.stored(machine) == stage.content(machine)
    assert stage.leases() == 0
    await stage.expect_sound(machine)


async def test_the_lease_of_a_killed_proxy_is_outlived(stage: Stage, proxy: Proxy) -> None:
    machine = stage.machine("killed-leased", LARGE)
    files = stage.files()
    rule = stage.fault("nfc:GET", "delay", delay_ms=DELAY_MS)
    handle = await stage.start(stage.backup(machine, LEASE, proxy=NAME))
    await stage.wait_for_hit(rule)
    proxy.kill()
    assert stage.leases() == 1
    proxy.start()
    assert "disk-read-failed" in await stage.failure_said(machine, "another export of the machine is under way")
    stage.time_leases_out()
    result = await handle.result()
    assert result.session.outcome is Outcome.SUCCESS
    assert stage.stored(machine) == stage.content(machine)
    assert stage.leases() == 0
    await stage.expect_sound(machine, files)
