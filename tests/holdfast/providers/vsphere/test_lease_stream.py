"""One pass over a stream ends with its end, and with an error when that does not come."""

from collections.abc import Iterator

import msgspec
import pytest

from holdfast.clock import SystemClock
from holdfast.errors import DiskReadFailed
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.lease import DiskAddress, DiskPlace, Lease
from holdfast.providers.vsphere.lease_stream import LeaseStream
from tests.holdfast.providers.vsphere.bench import VSphereBench
from tests.lab.vcenter.client import vim

pytestmark = pytest.mark.vsphere

MIB = 1 << 20
PLACE = "ParaVirtualSCSIController0:0"


@pytest.fixture
def leased(bench: VSphereBench, connection: Connection) -> Iterator[DiskAddress]:
    machine = bench.make_machine("streamed", [2 * MIB])
    bench.write_live(machine.machine_id, machine.disks[0].key, MIB + 7, b"hello")
    taken = bench.client.snapshot(bench.vm(machine.machine_id))
    lease = Lease(connection, SystemClock(), connection.reference(vim.vm.Snapshot, taken._moId))
    yield lease.address(DiskPlace(name=PLACE, among=frozenset({PLACE})))
    lease.end(is_good=True)


def test_grains_come_and_then_the_end(connection: Connection, leased: DiskAddress) -> None:
    stream = LeaseStream(connection, leased)
    assert (stream.capacity_bytes, stream.known_end) == (None, 0)
    grains = []
    while stream.known_end < 2 * MIB:
        grains += stream.more()
    assert stream.capacity_bytes == 2 * MIB
    [grain] = grains
    assert grain.offset == MIB
    assert grain.unpack().strip(b"\0") == b"hello"
    stream.close()
    stream.close()


def test_a_line_that_breaks_is_an_error(bench: VSphereBench, connection: Connection, leased: DiskAddress) -> None:
    for after in (0, 600):
        rule = {"method": "nfc:GET", "action": "drop", "times": 1, "after_bytes": after}
        bench.client.control("POST", "/faults", rule)
        with pytest.raises(DiskReadFailed) as caught:
            read_all(LeaseStream(connection, leased))
        assert caught.value.retryable


def test_what_is_no_stream_is_an_error(bench: VSphereBench, connection: Connection, leased: DiskAddress) -> None:
    elsewhere = msgspec.structs.replace(leased, path="/nfc/lease-0/disk-0.vmdk")
    with pytest.raises(DiskReadFailed, match="answers 404"):
        LeaseStream(connection, elsewhere)
    page = msgspec.structs.replace(leased, path="/sdk/vimServiceVersions.xml")
    with pytest.raises(DiskReadFailed, match="ends in its middle"):
        read_all(LeaseStream(connection, page))


def read_all(stream: LeaseStream) -> None:
    try:
        while stream.known_end < 2 * MIB:
            stream.more()
    finally:
        stream.close()
