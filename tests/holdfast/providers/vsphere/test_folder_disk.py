"""Files of datastores are read over HTTPS, through broken lines and ended sessions."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from holdfast.errors import DiskReadFailed
from holdfast.model.plan import Transport, TransportMode
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.file_server import DatastoreFile
from holdfast.providers.vsphere.folder_disk import FlatFile, FolderDisk
from tests.holdfast.providers.vsphere.bench import VSphereBench

pytestmark = pytest.mark.vsphere

MIB = 1 << 20
WAY = Transport(mode=TransportMode.HTTPS, reason="")


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


def test_a_line_that_breaks_in_mid_stream_goes_on_where_it_was(bench: VSphereBench, disk: FolderDisk) -> None:
    rule = {"method": "folder:GET", "action": "drop", "at": 3, "times": 1, "after_bytes": 600 * 1024}
    bench.client.control("POST", "/faults", rule)
    buffer = bytearray(MIB // 4)
    for offset in range(0, 4 * MIB, len(buffer)):
        disk.read_into(offset, memoryview(buffer))
        assert buffer == b"".join(at.to_bytes(8, "big") for at in range(offset, offset + len(buffer), 8))
    [told] = bench.client.control("GET", "/faults")
    assert (told["hit"], told["seen"]) == (1, 5)


def test_a_line_that_keeps_breaking_is_an_error(bench: VSphereBench, disk: FolderDisk) -> None:
    bench.client.control("POST", "/faults", {"method": "folder:GET", "action": "drop"})
    with pytest.raises(DiskReadFailed) as caught:
        word(disk, 0)
    assert caught.value.retryable


@pytest.mark.parametrize("offset, length", [(-8, 8), (4 * MIB, 8), (4 * MIB - 4, 8)])
def test_nothing_is_read_outside_the_disk(disk: FolderDisk, offset: int, length: int) -> None:
    with pytest.raises(DiskReadFailed, match="the disk has 4194304 bytes"):
        disk.read_into(offset, memoryview(bytearray(length)))
