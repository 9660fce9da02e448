"""Files of datastores are read over HTTPS, through broken lines and ended sessions."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from holdfast.errors import DiskNotFound, DiskReadFailed
from holdfast.model.plan import Transport, TransportMode
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.folder_disk import DatastoreFile, FlatFile, FolderDisk, locate, read_small
from tests.holdfast.providers.vsphere.bench import VSphereBench

pytestmark = pytest.mark.vsphere

MIB = 1 << 20
WAY = Transport(mode=TransportMode.HTTPS, reason="")


@pytest.fixture
def connection(bench: VSphereBench) -> Iterator[Connection]:
    with Connection(bench.settings.endpoint) as connection:
        yield connection


@pytest.fixture
def file(bench: VSphereBench) -> DatastoreFile:
    """A file whose name needs quoting, with bytes that tell their place."""
    place = bench.settings.mounts[bench.store] / "größe 100% + &"
    place.mkdir(exist_ok=True)
    (place / "a b#?.bin").write_bytes(b"".join(at.to_bytes(8, "big") for at in range(0, 4 * MIB, 8)))
    return DatastoreFile(datacenter="DC0", path=f"[{bench.store}] größe 100% + &/a b#?.bin")


@pytest.fixture
def disk(connection: Connection, file: DatastoreFile) -> Iterator[FolderDisk]:
    with FolderDisk(connection, FlatFile(file=file, size_bytes=4 * MIB), WAY, lambda: iter(())) as disk:
        yield disk


def word(disk: FolderDisk, offset: int) -> int:
    buffer = bytearray(8)
    disk.read_into(offset, memoryview(buffer))
    return int.from_bytes(buffer, "big")


@pytest.mark.parametrize("offset", [0, 8, MIB, 4 * MIB - 8])
def test_a_range_is_read(disk: FolderDisk, offset: int) -> None:
    assert word(disk, offset) == offset


def test_threads_read_at_once(disk: FolderDisk) -> None:
    offsets = [at * 8 * 1024 for at in range(200)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda at: word(disk, at), offsets)) == offsets


def test_an_ended_session_is_renewed(bench: VSphereBench, disk: FolderDisk) -> None:
    word(disk, 0)
    bench.client.control("POST", "/sessions/expire")
    assert word(disk, 64) == 64


def test_a_line_that_breaks_once_is_opened_anew(bench: VSphereBench, disk: FolderDisk) -> None:
    rule = {"method": "folder:GET", "action": "drop", "times": 1}
    bench.client.control("POST", "/faults", rule | {"after_bytes": 4})
    assert word(disk, 128) == 128
    bench.client.control("POST", "/faults", rule)
    assert word(disk, 256) == 256


def test_a_line_that_keeps_breaking_is_an_error(bench: VSphereBench, disk: FolderDisk) -> None:
    bench.client.control("POST", "/faults", {"method": "folder:GET", "action": "drop"})
    with pytest.raises(DiskReadFailed) as caught:
        word(disk, 0)
    assert caught.value.retryable


def test_a_whole_small_file_is_read_and_a_larger_one_refused(connection: Connection, file: DatastoreFile) -> None:
    found, content = locate(connection, file, 4 * MIB)
    assert (found.quotings, len(content)) == (1, 4 * MIB)
    with pytest.raises(DiskReadFailed, match="more than 16 bytes"):
        read_small(connection, file, 16)


def test_a_file_that_is_not_there_is_not_found(connection: Connection, bench: VSphereBench) -> None:
    with pytest.raises(DiskNotFound, match="404"):
        locate(connection, DatastoreFile(datacenter="DC0", path=f"[{bench.store}] no/such 1.vmdk"), 64)


def test_an_address_is_quoted_as_often_as_the_server_wants() -> None:
    file = DatastoreFile(datacenter="a/b", path="[d s] x y/ü%.vmdk", quotings=2)
    assert file.url == "/folder/x%2520y/%25C3%25BC%2525.vmdk?dcPath=a%2Fb&dsName=d%20s"


@pytest.mark.parametrize("offset, length", [(-8, 8), (4 * MIB, 8), (4 * MIB - 4, 8)])
def test_nothing_is_read_outside_the_disk(disk: FolderDisk, offset: int, length: int) -> None:
    with pytest.raises(DiskReadFailed, match="the disk has 4194304 bytes"):
        disk.read_into(offset, memoryview(bytearray(length)))
