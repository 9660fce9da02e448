"""Disks of restores are attached to the proxy, written there, and detached before they are switched in."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from typing_extensions import override

from holdfast.clock import SystemClock
from holdfast.errors import DiskWriteFailed
from holdfast.model.machine import Machine, PowerState
from holdfast.model.plan import TransportMode
from holdfast.model.spans import Span
from holdfast.providers.vsphere import hot_add
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.hot_add import HotAdd
from holdfast.providers.vsphere.inventory import VSphereInventory
from holdfast.providers.vsphere.provider import VSphereProvider
from holdfast.providers.vsphere.targets import TargetStore
from holdfast.testing.provider_bench import MIB
from holdfast.testing.provider_targets import TargetConformance
from tests.holdfast.providers.vsphere.bench import VSphereBench
from tests.holdfast.providers.vsphere.proxy import Proxy, Restore, frozen
from tests.lab.vcenter.client import Client

pytestmark = pytest.mark.vsphere


def test_a_disk_of_a_target_is_written_at_the_proxy_and_is_there_after_the_commit(
    proxy: Proxy, provider: VSphereProvider, restore: Restore, vc: Client
) -> None:
    with proxy.kernel(vc), provider.open_target(restore.target_id, restore.keys[0]) as disk:
        assert disk.size_bytes == 4 * MIB
        disk.write(MIB, memoryview(b"restored" * 64))
        disk.write(2 * MIB, memoryview(b"x" * MIB))
        disk.write_zeros(Span(2 * MIB, MIB))
        disk.flush()
        found = bytearray(8)
        disk.read_into(MIB, memoryview(found))
        assert found == b"restored"
        [attached] = proxy.attached()
        assert attached.backing.diskMode == "independent_persistent", "a snapshot of the proxy takes no write away"
        [mark] = proxy.marks()
        assert restore.target_id in mark
    assert (proxy.attached(), proxy.marks()) == ([], [])
    provider.commit_target(restore.target_id)
    wanted = bytearray(4 * MIB)
    wanted[MIB : MIB + 512] = b"restored" * 64
    assert restore.content() == wanted
    provider.set_power(restore.subject.machine_id, PowerState.ON)


@pytest.mark.parametrize("ending", ["commit_target", "abandon_target"])
@pytest.mark.parametrize("is_elsewhere", [False, True], ids=["at-the-proxy", "elsewhere"])
def test_what_a_dead_process_attached_is_detached_before_its_target_ends(
    bench: VSphereBench, proxy: Proxy, restore: Restore, vc: Client, ending: str, *, is_elsewhere: bool
) -> None:
    with proxy.kernel(vc):
        dead = VSphereProvider(proxy.settings, SystemClock())
        left = dead.open_target(restore.target_id, restore.keys[0])
        left.write(0, memoryview(b"restored"))
        left.flush()
        assert len(proxy.attached()) == 1
        settings = bench.settings if is_elsewhere else proxy.settings
        with VSphereProvider(settings, SystemClock()) as successor:
            getattr(successor, ending)(restore.target_id)
        assert (proxy.attached(), proxy.marks()) == ([], [])
        left.close()
        dead.close()
    assert restore.content()[:8] == (b"restored" if ending == "commit_target" else bytes(8))
    bench.provider.set_power(restore.subject.machine_id, PowerState.ON)


def test_a_second_attempt_at_a_target_takes_the_place_of_a_dead_one(
    proxy: Proxy, provider: VSphereProvider, restore: Restore, vc: Client
) -> None:
    with proxy.kernel(vc):
        dead = VSphereProvider(proxy.settings, SystemClock())
        left = dead.open_target(restore.target_id, restore.keys[0])
        with provider.open_target(restore.target_id, restore.keys[0]) as disk:
            disk.write(0, memoryview(b"restored"))
            disk.flush()
            assert len(proxy.attached()) == 1
        left.close()
        dead.close()
    assert proxy.attached() == []
    provider.commit_target(restore.target_id)
    assert restore.content()[:8] == b"restored"


def test_another_proxy_goes_on_while_a_dead_one_holds_the_disk(
    bench: VSphereBench, proxy: Proxy, restore: Restore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = tmp_path / "elsewhere"
    devices.mkdir()
    other = Proxy(bench, devices)
    with proxy.kernel(bench.client), other.kernel(bench.client):
        dead = VSphereProvider(proxy.settings, SystemClock())
        left = dead.open_target(restore.target_id, restore.keys[0])
        monkeypatch.setattr(hot_add, "DEVICES", devices)
        with VSphereProvider(other.settings, SystemClock()) as successor:
            with successor.open_target(restore.target_id, restore.keys[0]) as disk:
                assert (proxy.attached(), len(other.attached())) == ([], 1)
                disk.write(0, memoryview(b"restored" * 64))
                disk.flush()
            successor.commit_target(restore.target_id)
        left.close()
        dead.close()
    assert restore.content()[:8] == b"restored"


def test_two_targets_leave_each_others_disks_alone(
    bench: VSphereBench, proxy: Proxy, provider: VSphereProvider, restore: Restore, vc: Client
) -> None:
    other = Restore(bench, provider, "another token")
    with proxy.kernel(vc), provider.open_target(other.target_id, other.keys[0]) as disk:
        with provider.open_target(restore.target_id, restore.keys[0]):
            assert len(proxy.attached()) == 2
        provider.commit_target(restore.target_id)
        assert len(proxy.attached()) == 1
        disk.write(0, memoryview(b"restored"))
        disk.flush()
    provider.commit_target(other.target_id)
    assert other.content()[:8] == b"restored"
    assert restore.content() == bytes(4 * MIB)


def test_a_file_that_is_not_of_the_target_is_never_attached(
    bench: VSphereBench, proxy: Proxy, restore: Restore
) -> None:
    with Connection(proxy.settings.endpoint) as connection:
        clock = SystemClock()
        targets = TargetStore(connection, VSphereInventory(connection), clock)
        opened = targets.opened(restore.target_id, restore.keys[0])
        live = bench.device(restore.subject.machine_id, restore.keys[0]).backing.fileName
        assert live not in opened.files
        stolen = msgspec.structs.replace(opened, facts=msgspec.structs.replace(opened.facts, file=live))
        with pytest.raises(DiskWriteFailed, match="is no file of target"):
            HotAdd(proxy.settings, connection, clock).open_target(stolen)
    assert (proxy.attached(), proxy.marks()) == ([], [])


def test_a_disk_of_a_target_that_never_appears_is_detached_again_and_told(
    proxy: Proxy, provider: VSphereProvider, restore: Restore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hot_add, "APPEARANCE_S", 0.2)
    with pytest.raises(DiskWriteFailed, match=r"cannot be written: hot-add: .* did not appear"):
        provider.open_target(restore.target_id, restore.keys[0])
    assert (proxy.attached(), proxy.marks()) == ([], [])


def test_an_attachment_whose_answer_was_lost_is_found_by_the_commit(
    proxy: Proxy, provider: VSphereProvider, restore: Restore, vc: Client
) -> None:
    with proxy.kernel(vc):
        rule = {"method": "ReconfigVM_Task", "machine": proxy.vm._moId, "action": "drop-after", "times": 1}
        vc.control("POST", "/faults", rule)
        with pytest.raises(DiskWriteFailed):
            provider.open_target(restore.target_id, restore.keys[0])
    assert len(proxy.attached()) == 1
    provider.commit_target(restore.target_id)
    assert (proxy.attached(), proxy.marks()) == ([], [])


# Finding what a dead session left, wherever it is


def test_disks_left_at_a_proxy_are_listed_and_detached_from_anywhere(
    bench: VSphereBench, proxy: Proxy, provider: VSphereProvider, restore: Restore, vc: Client
) -> None:
    subject = frozen(bench)
    snapshot = subject.snapshot("holdfast-s1")
    assert bench.provider.attached_disks() == []
    with proxy.kernel(vc):
        read_disk = provider.open_disk(subject.machine_id, snapshot.snapshot_id, subject.key)
        written = provider.open_target(restore.target_id, restore.keys[0])
        found = {one.tag or one.target_id: one for one in bench.provider.attached_disks()}
        assert found.keys() == {"holdfast-s1", restore.target_id}
        assert {one.machine_name for one in found.values()} == {"proxy"}
        for one in found.values():
            for _ in range(2):
                bench.provider.detach_disk(one)
        assert (proxy.attached(), proxy.marks()) == ([], [])
        read_disk.close()
        written.close()


def test_a_disk_that_was_attached_anew_since_it_was_listed_stays(
    bench: VSphereBench, proxy: Proxy, provider: VSphereProvider, restore: Restore, vc: Client
) -> None:
    with proxy.kernel(vc):
        provider.open_target(restore.target_id, restore.keys[0]).close()
        with provider.open_target(restore.target_id, restore.keys[0]):
            [old] = bench.provider.attached_disks()
        with provider.open_target(restore.target_id, restore.keys[0]):
            bench.provider.detach_disk(old)
            assert len(proxy.attached()) == 1


def test_where_disks_are_never_attached_none_is_looked_for(bench: VSphereBench) -> None:
    settings = msgspec.structs.replace(bench.settings, transports=(TransportMode.DIRECT,))
    with VSphereProvider(settings, SystemClock()) as provider:
        bench.client.control("DELETE", "/calls")
        assert provider.attached_disks() == []
    assert "RetrievePropertiesEx" not in bench.client.control("GET", "/calls")


class BesideProxy(VSphereProvider):
    """Does not list the proxy, which the suite knows nothing of."""

    @override
    def machines(self) -> Iterator[Machine]:
        return (machine for machine in super().machines() if machine.name != "proxy")


class HotAddBench(VSphereBench):
    """Reads and writes everything by attaching it to the proxy."""

    def __init__(self, client: Client, proxy: Proxy) -> None:
        super().__init__(client, proxy.settings, proxy.bench.seed)
        self.provider = self.reconnect()

    @override
    def reconnect(self) -> VSphereProvider:
        provider = BesideProxy(self.settings, SystemClock())
        self._opened.append(provider)
        return provider


class TestHotAddTargets(TargetConformance):
    """Restores over hot-add keep the contract of all providers."""

    @pytest.fixture
    def bench(
        self, bench: VSphereBench, vc: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[VSphereBench]:
        """The bench of a proxy that writes everything by attaching it."""
        monkeypatch.setattr(hot_add, "DEVICES", tmp_path)
        proxy = Proxy(bench, tmp_path)
        with proxy.kernel(vc):
            hot_adding = HotAddBench(vc, proxy)
            yield hot_adding
            assert (proxy.attached(), proxy.marks()) == ([], [])
            hot_adding.close()
