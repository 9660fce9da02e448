"""Files of datastores are asked for, whole, in the name of the session."""

import pytest

from holdfast.errors import DiskNotFound, DiskReadFailed
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.file_server import DatastoreFile, locate, read_small
from tests.holdfast.providers.vsphere.bench import VSphereBench

pytestmark = pytest.mark.vsphere

MIB = 1 << 20


@pytest.fixture
def file(bench: VSphereBench) -> DatastoreFile:
    """A file whose name needs quoting, with bytes that tell their place."""
    place = bench.settings.mounts[bench.store] / "größe 100% + &"
    place.mkdir(exist_ok=True)
    (place / "a b#?.bin").write_bytes(b"".join(at.to_bytes(8, "big") for at in range(0, 4 * MIB, 8)))
    return DatastoreFile(datacenter="DC0", path=f"[{bench.store}] größe 100% + &/a b#?.bin")


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
