"""Disks are attached to the proxy, read there, and detached whatever happens."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from typing_extensions import override

from holdfast.clock import SystemClock
from holdfast.errors import DiskReadFailed, DiskWriteFailed
from holdfast.model.machine import Disk, Machine, PowerState
from holdfast.model.plan import TransportMode
from holdfast.model.spans import Span
from holdfast.providers.vsphere import hot_add
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.hot_add import HotAdd, readings
from holdfast.providers.vsphere.inventory import VSphereInventory
from holdfast.providers.vsphere.provider import VSphereProvider
from holdfast.providers.vsphere.self_test_ways import try_ways
from holdfast.providers.vsphere.settings import VSphereSettings
from holdfast.providers.vsphere.targets import TargetStore
from holdfast.testing.provider_bench import MIB, Subject, assert_same, read_all
from holdfast.testing.provider_targets import TargetConformance
from tests.holdfast.providers.vsphere.bench import VSphereBench
from tests.lab.vcenter.client import Client, disks

pytestmark = pytest.mark.vsphere

BORROWED = ("independent_nonpersistent", "independent_persistent")
MARK = "holdfast.attached."


class Proxy:
    """A machine of the lab that plays the host of the tests, with a kernel that shows attached disks."""

    def __init__(self, bench: VSphereBench, devices: Path) -> None:
        self.bench = bench
        self.devices = devices
        self.machine: Machine = bench.make_machine("proxy", [MIB])
        bench.provider.set_power(self.machine.machine_id, PowerState.ON)
        self.vm: Any = bench.vm(self.machine.machine_id)

    @property
    def settings(self) -> VSphereSettings:
        return msgspec.structs.replace(
            self.bench.settings,
            transports=(TransportMode.HOT_ADD,),
            proxy_uuid=self.vm.config.uuid,
        )

    def attached(self) -> list[Any]:
        return [disk for disk in disks(self.vm.config) if disk.backing.diskMode in BORROWED]

    def marks(self) -> list[str]:
        return [str(option.value) for option in self.vm.config.extraConfig if option.key.startswith(MARK)]

    @contextmanager
    def kernel(self, client: Client) -> Iterator[None]:
        """Show each attached disk by its worldwide name, as the kernel of a guest does."""
        stopped = threading.Event()

        def show() -> None:
            while not stopped.wait(0.01):
                entries = client.control("GET", f"/disks?machine={quote(self.vm._moId)}")
                paths = {entry["key"]: Path(entry["path"]) for entry in entries}
                shown = {self.name(disk): paths[disk.key] for disk in self.attached() if disk.key in paths}
                for link in self.devices.iterdir():
                    if link.name not in shown:
                        link.unlink()
                for name, path in shown.items():
                    if not (self.devices / name).is_symlink():
                        (self.devices / name).symlink_to(path)

        thread = threading.Thread(target=show)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()

    def name(self, disk: Any) -> str:
        return f"wwn-0x{disk.backing.uuid.replace('-', '').lower()}"


@pytest.fixture
def proxy(bench: VSphereBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    devices = tmp_path / "by-id"
    devices.mkdir()
    monkeypatch.setattr(hot_add, "DEVICES", devices)
    return Proxy(bench, devices)


@pytest.fixture
def provider(proxy: Proxy) -> Iterator[VSphereProvider]:
    with VSphereProvider(proxy.settings, SystemClock()) as provider:
        yield provider


def frozen(bench: VSphereBench) -> Subject:
    subject = Subject(bench, "web", 4 * MIB, 2 * MIB)
    subject.write(Span(MIB, MIB))
    return subject


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


# Writing


class Restore:
    """A restore target that replaces the disks of a machine, and the machine."""

    def __init__(self, bench: VSphereBench, provider: VSphereProvider, name: str = "one") -> None:
        self.bench = bench
        self.provider = provider
        self.subject = Subject(bench, f"web {name}", 4 * MIB, 2 * MIB)
        self.keys = self.subject.keys
        disks = [Disk(key=disk.key, size_bytes=disk.size_bytes) for disk in self.subject.machine.disks]
        self.target_id = provider.prepare_target(name, self.subject.machine, disks, self.subject.machine_id).target_id

    def content(self, number: int = 0) -> bytes:
        return self.bench.read_live(self.subject.machine_id, self.keys[number])


@pytest.fixture
def restore(bench: VSphereBench, provider: VSphereProvider) -> Restore:
    return Restore(bench, provider)


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
