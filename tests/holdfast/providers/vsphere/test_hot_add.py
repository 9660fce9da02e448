"""Disks are attached to the proxy, read there, and detached whatever happens."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from holdfast.clock import SystemClock
from holdfast.errors import DiskReadFailed, SnapshotFailed
from holdfast.model.machine import PowerState
from holdfast.model.plan import TransportMode
from holdfast.model.spans import Span
from holdfast.providers.vsphere import hot_add
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.hot_add import readings
from holdfast.providers.vsphere.provider import VSphereProvider
from holdfast.providers.vsphere.self_test_ways import try_ways
from holdfast.testing.provider_bench import MIB, assert_same, read_all
from tests.holdfast.providers.vsphere.bench import VSphereBench
from tests.holdfast.providers.vsphere.proxy import Proxy, frozen
from tests.lab.vcenter.client import Client

pytestmark = pytest.mark.vsphere


def test_a_frozen_disk_is_read_at_the_proxy_and_detached_when_closed(
    bench: VSphereBench, proxy: Proxy, provider: VSphereProvider, vc: Client
) -> None:
    subject = frozen(bench)
    snapshot = subject.snapshot("tag")
    content = subject.content.copy()
    subject.write(Span(0, MIB))
    with proxy.kernel(vc), provider.open_disk(subject.machine_id, snapshot.snapshot_id, subject.key) as disk:
        assert disk.transport.mode is TransportMode.HOT_ADD
        assert disk.transport.reason == "the proxy is a machine of this vCenter"
        assert_same(content, read_all(disk), "attached disk")
        assert len(proxy.attached()) == 1
    assert proxy.attached() == []
    provider.remove_snapshot(subject.machine_id, snapshot.snapshot_id)
    subject.assert_live()


def test_two_disks_are_attached_at_once(
    bench: VSphereBench, proxy: Proxy, provider: VSphereProvider, vc: Client
) -> None:
    subject = frozen(bench)
    snapshot = subject.snapshot("tag")
    with (
        proxy.kernel(vc),
        provider.open_disk(subject.machine_id, snapshot.snapshot_id, subject.keys[0]),
        provider.open_disk(subject.machine_id, snapshot.snapshot_id, subject.keys[1]) as second,
    ):
        assert len(proxy.attached()) == 2
        assert_same(subject.contents[subject.keys[1]], read_all(second), "second disk")
    assert proxy.attached() == []


def test_what_a_dead_process_attached_is_detached_before_its_snapshot_goes(
    bench: VSphereBench, proxy: Proxy, vc: Client
) -> None:
    subject = frozen(bench)
    snapshot = subject.snapshot("tag")
    with proxy.kernel(vc):
        dead = VSphereProvider(proxy.settings, SystemClock())
        left = dead.open_disk(subject.machine_id, snapshot.snapshot_id, subject.key)
        assert len(proxy.attached()) == 1
        with VSphereProvider(proxy.settings, SystemClock()) as successor:
            successor.remove_snapshot(subject.machine_id, snapshot.snapshot_id)
        assert proxy.attached() == []
        assert not bench.vm(subject.machine_id).runtime.consolidationNeeded
        left.close()
        dead.close()


@pytest.fixture
def elsewhere(bench: VSphereBench, proxy: Proxy) -> Iterator[VSphereProvider]:
    """Another proxy, which is no machine that disks were attached to."""
    machine = bench.make_machine("another proxy", [MIB])
    settings = msgspec.structs.replace(proxy.settings, proxy_uuid=bench.vm(machine.machine_id).config.uuid)
    with VSphereProvider(settings, SystemClock()) as provider:
        yield provider


@pytest.mark.parametrize("is_seen_before", [True, False])
def test_what_a_dead_proxy_holds_is_detached_before_another_one_removes_the_snapshot(
    bench: VSphereBench, proxy: Proxy, vc: Client, elsewhere: VSphereProvider, *, is_seen_before: bool
) -> None:
    subject = frozen(bench)
    bench.provider.set_power(subject.machine_id, PowerState.ON)
    snapshot = subject.snapshot("tag")
    if is_seen_before:
        elsewhere.remove_tagged(subject.machine_id, "another tag")
    with proxy.kernel(vc), VSphereProvider(proxy.settings, SystemClock()) as dead:
        left = dead.open_disk(subject.machine_id, snapshot.snapshot_id, subject.key)
        elsewhere.remove_tagged(subject.machine_id, "tag")
        assert proxy.attached() == []
        assert proxy.marks() == []
        assert not bench.vm(subject.machine_id).runtime.consolidationNeeded
        left.close()


def test_a_sweep_that_detaches_folds_what_the_disk_was_in_the_way_of(
    bench: VSphereBench, proxy: Proxy, vc: Client, elsewhere: VSphereProvider
) -> None:
    subject = frozen(bench)
    bench.provider.set_power(subject.machine_id, PowerState.ON)
    snapshot = subject.snapshot("tag")
    with proxy.kernel(vc), VSphereProvider(proxy.settings, SystemClock()) as dead:
        left = dead.open_disk(subject.machine_id, snapshot.snapshot_id, subject.key)
        settings = msgspec.structs.replace(bench.settings, transports=(TransportMode.NETWORK,))
        with VSphereProvider(settings, SystemClock()) as outside, pytest.raises(SnapshotFailed):
            outside.remove_tagged(subject.machine_id, "tag")  # where no disks are attached nobody looks for them
        [attached] = elsewhere.attached_disks()
        assert attached.source == subject.machine_id
        for _ in range(2):
            elsewhere.detach_disk(attached)
        assert proxy.attached() == []
        assert not bench.vm(subject.machine_id).runtime.consolidationNeeded
        left.close()


def test_another_attempt_takes_the_place_of_a_dead_one(bench: VSphereBench, proxy: Proxy, vc: Client) -> None:
    subject = frozen(bench)
    snapshot = subject.snapshot("tag")
    with proxy.kernel(vc):
        dead = VSphereProvider(proxy.settings, SystemClock())
        left = dead.open_disk(subject.machine_id, snapshot.snapshot_id, subject.key)
        with (
            VSphereProvider(proxy.settings, SystemClock()) as successor,
            successor.open_disk(subject.machine_id, snapshot.snapshot_id, subject.key) as disk,
        ):
            assert_same(subject.content, read_all(disk), "attached again")
            assert len(proxy.attached()) == 1
        left.close()
        dead.close()
    assert proxy.attached() == []


def test_the_end_of_a_stalled_attempt_leaves_the_disk_of_its_successor_alone(
    bench: VSphereBench, proxy: Proxy, vc: Client
) -> None:
    subject = frozen(bench)
    snapshot = subject.snapshot("tag")
    with proxy.kernel(vc), VSphereProvider(proxy.settings, SystemClock()) as stalled:
        left = stalled.open_disk(subject.machine_id, snapshot.snapshot_id, subject.key)
        with (
            VSphereProvider(proxy.settings, SystemClock()) as successor,
            successor.open_disk(subject.machine_id, snapshot.snapshot_id, subject.key) as disk,
        ):
            left.close()
            assert len(proxy.attached()) == len(proxy.marks()) == 1
            assert_same(subject.content, read_all(disk), "the disk of the successor")
    assert (proxy.attached(), proxy.marks()) == ([], [])


def test_a_disk_that_never_appears_is_detached_again(
    bench: VSphereBench, proxy: Proxy, provider: VSphereProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hot_add, "APPEARANCE_S", 0.2)
    subject = frozen(bench)
    snapshot = subject.snapshot("tag")
    with pytest.raises(DiskReadFailed, match="did not appear"):
        provider.open_disk(subject.machine_id, snapshot.snapshot_id, subject.key)
    assert proxy.attached() == []


def test_the_disks_of_the_proxy_itself_are_read_another_way(proxy: Proxy, provider: VSphereProvider) -> None:
    snapshot = provider.create_snapshot(proxy.machine.machine_id, "tag")
    with pytest.raises(DiskReadFailed, match="not hot-add: the machine is the proxy itself"):
        provider.open_disk(proxy.machine.machine_id, snapshot.snapshot_id, proxy.machine.disks[0].key)


def test_a_host_outside_says_so(bench: VSphereBench) -> None:
    subject = frozen(bench)
    snapshot = subject.snapshot("tag")
    settings = msgspec.structs.replace(
        bench.settings, transports=(TransportMode.HOT_ADD,), proxy_uuid="00000000-0000-0000-0000-000000000000"
    )
    with (
        VSphereProvider(settings, SystemClock()) as outside,
        pytest.raises(DiskReadFailed, match="not hot-add: the proxy is no machine of this vCenter"),
    ):
        outside.open_disk(subject.machine_id, snapshot.snapshot_id, subject.key)


def test_a_proxy_whose_uuid_a_copy_shares_takes_no_disk(bench: VSphereBench, proxy: Proxy) -> None:
    copy = bench.make_machine("copy of the proxy", [MIB])
    bench.client.reconfigure(bench.vm(copy.machine_id), uuid=proxy.vm.config.uuid)
    with Connection(bench.settings.endpoint) as connection:
        hot_adder = hot_add.HotAdd(proxy.settings, connection, SystemClock())
        assert "2 machines of this vCenter have the BIOS uuid of the proxy" in hot_adder.why_not(None)


def test_the_self_test_says_how_many_disks_the_proxy_can_take(proxy: Proxy) -> None:
    with Connection(proxy.settings.endpoint) as connection:
        found = {one.check: one for one in try_ways(connection, proxy.settings, [], {})}
    assert found["transport hot-add"].text == "this host is a machine of the vCenter with 14 free places for disks"


def test_a_uuid_is_read_both_ways_round() -> None:
    assert readings("11223344-5566-7788-99aa-bbccddeeff00") == (
        "11223344-5566-7788-99aa-bbccddeeff00",
        "44332211-6655-8877-99aa-bbccddeeff00",
    )
    assert readings("not a uuid") == readings("") == ()


def test_a_copy_of_the_disk_at_the_proxy_is_never_read_in_its_place(
    bench: VSphereBench, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hot_add, "DISAPPEARANCE_S", 0.1)
    subject = frozen(bench)
    snapshot = subject.snapshot("tag")
    own = tmp_path / "own.img"
    own.write_bytes(b"not what is asked for ".ljust(32) * (4 * MIB // 32))
    device = bench.device(subject.machine_id, subject.key)
    (proxy.devices / proxy.name(device)).symlink_to(own)
    ways = (TransportMode.HOT_ADD, TransportMode.HTTPS)
    settings = msgspec.structs.replace(proxy.settings, transports=ways)
    with (
        VSphereProvider(settings, SystemClock()) as provider,
        provider.open_disk(subject.machine_id, snapshot.snapshot_id, subject.key) as disk,
    ):
        assert disk.transport.mode is TransportMode.HTTPS
        assert "the proxy has another disk" in disk.transport.failed[0]
        assert_same(subject.content, read_all(disk), "the disk itself")
    assert proxy.attached() == []
