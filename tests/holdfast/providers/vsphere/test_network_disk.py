"""A frozen disk is served by an nbdkit of its own, which learns the password and nobody else does."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.clock import SystemClock
from holdfast.errors import DiskReadFailed, ToolMissing
from holdfast.model.plan import Transport, TransportMode
from holdfast.model.spans import Span
from holdfast.providers.vsphere.changes import FrozenDiskInVSphere
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.frozen import FrozenStates
from holdfast.providers.vsphere.inventory import VSphereInventory
from holdfast.providers.vsphere.network_disk import NetworkDisk, NetworkDisks
from holdfast.providers.vsphere.reading import allocated_areas
from holdfast.testing.provider_bench import MIB, Subject, assert_same, read, read_all
from tests.holdfast.providers.vsphere.bench import GRAIN, VSphereBench
from tests.lab.vcenter.running import lab_in
from workers.vcenter_lab import VCenterLab, VCenterSettings

pytestmark = [pytest.mark.vsphere, pytest.mark.tools("nbdkit")]

WAY = Transport(mode=TransportMode.NETWORK, reason="of a test")
PASSWORD = "correct horse; battery 'staple' $HOME"
SIZE = 4 * MIB
WRITTEN = [Span(GRAIN, GRAIN), Span(2 * MIB, GRAIN)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VCenterLab]:
    """A vCenter with a password that is like nothing else."""
    settings = VCenterSettings(clusters=0, machines=0, password=PASSWORD)
    with lab_in(tmp_path_factory.mktemp("vcenter"), settings) as lab:
        yield lab


@pytest.fixture
def subject(bench: VSphereBench) -> Subject:
    subject = Subject(bench, "web", SIZE)
    for span in WRITTEN:
        subject.write(span)
    return subject


@pytest.fixture
def frozen(connection: Connection, subject: Subject) -> FrozenDiskInVSphere:
    taken = subject.snapshot("tag")
    states = FrozenStates(connection, VSphereInventory(connection))
    state = states.look(subject.machine_id, taken.snapshot_id)
    return FrozenDiskInVSphere(
        connection=connection, machine=state.machine, snapshot=state.snapshot, facts=state.disks[0]
    )


def opened(
    bench: VSphereBench, frozen: FrozenDiskInVSphere, told: list[Span] | None = None, **settings: Any
) -> NetworkDisk:
    """Open a disk of which change tracking says what is given, or else what it says."""
    disks = NetworkDisks(msgspec.structs.replace(bench.settings, **settings), SystemClock())
    disk = disks.open(frozen, WAY, lambda: allocated_areas(frozen) if told is None else iter(told))
    assert isinstance(disk, NetworkDisk)
    return disk


def pid_of(disk: NetworkDisk) -> int:
    pid = disk._server.pid
    assert pid is not None
    return pid


def children() -> set[int]:
    """Return the processes that this one has started and not ended."""
    files = Path("/proc/self/task").glob("*/children")
    return {int(pid) for file in files for pid in file.read_text().split()}


def calls(bench: VSphereBench, method: str) -> int:
    return int(bench.client.control("GET", "/calls").get(method, 0))


def test_what_is_read_is_what_was_frozen(bench: VSphereBench, subject: Subject, frozen: FrozenDiskInVSphere) -> None:
    bench.write_live(subject.machine_id, subject.key, 0, b"after the snapshot" * 1000)
    with opened(bench, frozen) as disk:
        assert (disk.size_bytes, disk.transport) == (SIZE, WAY)
        assert_same(subject.content, read_all(disk), "served disk")


def test_what_was_written_is_asked_of_change_tracking(bench: VSphereBench, frozen: FrozenDiskInVSphere) -> None:
    with opened(bench, frozen) as disk:
        bench.client.control("DELETE", "/calls")
        assert list(disk.allocated_spans()) == WRITTEN
    assert calls(bench, "QueryChangedDiskAreas") == 1


def test_change_tracking_is_believed_before_the_server(bench: VSphereBench, frozen: FrozenDiskInVSphere) -> None:
    told = [Span(0, 512), Span(MIB, 512)]
    with opened(bench, frozen, told) as disk:
        assert list(disk.allocated_spans()) == told
    with opened(bench, frozen, []) as disk:
        assert list(disk.allocated_spans()) == []


def test_the_server_is_asked_when_change_tracking_does_not_know(
    bench: VSphereBench, frozen: FrozenDiskInVSphere
) -> None:
    untracked = msgspec.structs.replace(frozen, facts=msgspec.structs.replace(frozen.facts, change_id=None))
    with opened(bench, untracked) as disk:
        bench.client.control("DELETE", "/calls")
        assert covered(list(disk.allocated_spans()))
    assert calls(bench, "QueryChangedDiskAreas") == 0


def test_the_server_is_asked_when_change_tracking_fails(bench: VSphereBench, frozen: FrozenDiskInVSphere) -> None:
    bench.client.control("POST", "/faults", {"method": "QueryChangedDiskAreas", "action": "fail", "fault": "FileFault"})
    with opened(bench, frozen) as disk:
        assert covered(list(disk.allocated_spans()))


def covered(spans: list[Span]) -> bool:
    """Return whether spans hold what was written and leave out most of what was not."""
    holds = all(any(span.start <= one.start and one.end <= span.end for span in spans) for one in WRITTEN)
    return holds and sum(span.length for span in spans) < SIZE // 2


def test_nbdkit_ends_with_the_disk(bench: VSphereBench, frozen: FrozenDiskInVSphere) -> None:
    before = children()
    disk = opened(bench, frozen)
    pid = pid_of(disk)
    assert children() - before == {pid}
    disk.close()
    assert children() - before == set()
    assert not Path(f"/proc/{pid}").exists()
    disk.close()
    with pytest.raises(DiskReadFailed):
        read(disk, Span(0, 512))
    with pytest.raises(DiskReadFailed):
        list(disk.allocated_spans())


def test_the_password_is_on_no_command_line_and_in_no_file(
    bench: VSphereBench, frozen: FrozenDiskInVSphere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with opened(bench, frozen) as disk:
        words = Path(f"/proc/{pid_of(disk)}/cmdline").read_bytes().split(b"\0")
        environment = Path(f"/proc/{pid_of(disk)}/environ").read_bytes()
        [handed_over] = [word.partition(b"=")[2] for word in words if word.startswith(b"password=")]
        assert handed_over.startswith(b"+" + str(tmp_path).encode())
        assert not Path(handed_over[1:].decode()).exists()
        assert PASSWORD.encode() not in b" ".join([*words, environment])


def test_a_wrong_password_is_refused_in_the_words_of_nbdkit(bench: VSphereBench, frozen: FrozenDiskInVSphere) -> None:
    wrong = msgspec.structs.replace(bench.settings.endpoint, password=lambda: "guessed")
    frozen.connection.endpoint = wrong
    before = children()
    with pytest.raises(DiskReadFailed, match="InvalidLogin") as caught:
        opened(bench, frozen)
    assert "guessed" not in caught.value.message
    assert children() == before


def test_a_plugin_that_is_missing_is_named(bench: VSphereBench, frozen: FrozenDiskInVSphere) -> None:
    before = children()
    with pytest.raises(ToolMissing, match="no-such-plugin") as caught:
        opened(bench, frozen, nbdkit_plugin=("no-such-plugin",))
    assert caught.value.hint
    assert children() == before
