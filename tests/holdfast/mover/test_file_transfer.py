"""Machine files go to a point and come back out of it."""

from pathlib import Path

import pytest

from holdfast.errors import LinkLost, ProtocolError, RequestInvalid
from holdfast.formats.mover import messages as m
from holdfast.model.ids import RepositoryName
from holdfast.model.machine_files import FILE_SIZE_MAX, FileLeftOut, MachineFile, MachineFiles
from holdfast.model.points import DiskAccess, OpenPoint
from holdfast.mover.file_transfer import put_remote_files, read_remote_files, receive_files, send_files
from holdfast.mover.grants import FILES, Grant, new_salt
from tests.holdfast.mover.movers import CLOCK, MIB, Site, until

NVRAM = MachineFile(name="web.nvram", content=bytes(range(256)) * 1024)
VMX = MachineFile(name="web.vmx", content=b"")
KEPT = MachineFiles(files=(NVRAM, VMX))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "repository", {"a": MIB})


def access_to(site: Site, chain: str, number: int, file: str | None) -> DiskAccess:
    return site.issuer.issue(
        Grant(
            repository=RepositoryName("r"),
            chain=chain,
            number=number,
            disk=FILES,
            writes_file=file,
            expires_s=int(CLOCK.now().timestamp()) + 100,
            salt=new_salt(),
        )
    )


def finished(site: Site, opened: OpenPoint) -> None:
    site.machine.transfer(opened, "a")
    site.machine.finish(opened)


def test_files_of_a_point_come_back(site: Site) -> None:
    opened = site.begin()
    writing = access_to(site, opened.chain, opened.number, opened.file)
    with site.server() as server:
        put_remote_files(site.line(server.address, writing), writing.grant, KEPT)
        assert site.is_free(opened)
        finished(site, opened)
        reading = access_to(site, opened.chain, opened.number, None)
        assert read_remote_files(site.line(server.address, reading), reading.grant) == KEPT


def test_any_number_of_files_may_have_been_left_out_at_the_source(site: Site) -> None:
    opened = site.begin()
    writing = access_to(site, opened.chain, opened.number, opened.file)
    lost = MachineFiles(files=(VMX,), left_out=(FileLeftOut(name="x", reason="y"),) * 17)
    with site.server() as server:
        put_remote_files(site.line(server.address, writing), writing.grant, lost)


def test_both_sides_part_as_soon_as_the_files_have_come(site: Site) -> None:
    opened = site.begin()
    writing = access_to(site, opened.chain, opened.number, opened.file)
    with site.server() as server:
        for attempt in range(1, 21):  # who closes before the last words were acknowledged leaves the other waiting
            put_remote_files(site.line(server.address, writing, attempt), writing.grant, KEPT)
            until(lambda: not vars(server)["_sessions"], "the session is over", 5.0)


def test_a_complete_point_takes_no_files(site: Site) -> None:
    opened = site.begin()
    finished(site, opened)
    writing = access_to(site, opened.chain, opened.number, opened.file)
    with site.server() as server, pytest.raises(RequestInvalid, match="is complete"):
        put_remote_files(site.line(server.address, writing), writing.grant, KEPT)


class Pipe:
    """The end of a line that gets what the other end is given."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def send(self, parts: list[bytes], _: float | None = None) -> None:
        self.messages.append(b"".join(parts))

    def receive(self, _: float) -> "Pipe | None":
        return self if self.messages else None

    @property
    def payload(self) -> bytes:
        return self.messages[0]

    def release(self, _: object) -> None:
        self.messages.pop(0)


def test_files_that_cannot_be_read_are_told() -> None:
    pipe = Pipe()
    told = MachineFiles(files=(VMX,), left_out=(FileLeftOut(name="web.nvram", reason="it is damaged"),))
    send_files(pipe, told)  # type: ignore[arg-type] # all that is used of a line
    pipe.send(m.encode_message(m.Finished()))  # type: ignore[arg-type] # bytes in fact
    assert receive_files(pipe, m.Finished) == told  # type: ignore[arg-type] # all that is used of a line


def test_more_than_a_point_keeps_and_other_words_are_refused() -> None:
    large = MachineFile(name="large", content=bytes(FILE_SIZE_MAX))
    many = MachineFiles(files=(large,) * 5)
    empty = MachineFiles(files=(VMX,) * 17)
    lost = MachineFiles(left_out=(FileLeftOut(name="x", reason="y"),) * 17)
    for files in (many, empty, lost):
        pipe = Pipe()
        send_files(pipe, files)  # type: ignore[arg-type] # all that is used of a line
        with pytest.raises(ProtocolError, match="than a restore point keeps"):
            receive_files(pipe, m.Finished)  # type: ignore[arg-type] # all that is used of a line
    pipe = Pipe()
    pipe.send(m.encode_message(m.Keep(until=1)))  # type: ignore[arg-type] # bytes in fact
    with pytest.raises(ProtocolError, match="Keep came"):
        receive_files(pipe, m.Finished)  # type: ignore[arg-type] # all that is used of a line


def test_no_more_files_are_taken_than_a_point_keeps() -> None:
    pipe = Pipe()
    send_files(pipe, MachineFiles(files=(VMX,) * 100))  # type: ignore[arg-type] # all that is used of a line
    with pytest.raises(ProtocolError, match="than a restore point keeps"):
        receive_files(pipe, m.Finished)  # type: ignore[arg-type] # all that is used of a line
    assert len(pipe.messages) == 100 - 16, "the next one ended it"


def test_as_many_files_as_a_point_keeps_are_taken() -> None:
    pipe = Pipe()
    large = MachineFile(name="large", content=bytes(FILE_SIZE_MAX))
    most = MachineFiles(files=(large,) * 4 + (VMX,) * 12, left_out=(FileLeftOut(name="x", reason="y"),) * 16)
    send_files(pipe, most)  # type: ignore[arg-type] # all that is used of a line
    pipe.send(m.encode_message(m.Finished()))  # type: ignore[arg-type] # bytes in fact
    assert receive_files(pipe, m.Finished) == most  # type: ignore[arg-type] # all that is used of a line


def test_an_end_in_the_middle_is_told() -> None:
    with pytest.raises(LinkLost, match="in the middle of machine files"):
        receive_files(Pipe(), m.Finished)  # type: ignore[arg-type] # all that is used of a line
