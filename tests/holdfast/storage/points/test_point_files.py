"""Machine files in a point: written once, covered by the root, compared, shown, and kept by a rebuild."""

import random
from pathlib import Path

import pytest

from holdfast.errors import PointNotFound, RequestInvalid
from holdfast.formats.magic import RECORDS_START, RecordKind
from holdfast.model.ids import SessionId
from holdfast.model.machine_files import MachineFile
from holdfast.model.points import OpenPoint, PointSummary
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chain_files.inspector import inspect_file
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.health.folder import rebuild_file, verify_folder
from holdfast.storage.intake.finishing import finish_point
from holdfast.storage.intake.lifecycle import StoreOptions, begin_point
from holdfast.storage.points.point_files import put_files, read_files
from holdfast.storage.points.point_writer import open_disk
from tests.holdfast.storage.driving import CHEAP, CLOCK, KEY, back_up, snapshot_of

FILES = HostFiles()
VMX = MachineFile(name="web.vmx", content=b'displayName = "web"\n' * 30)
NVRAM = MachineFile(name="web.nvram", content=random.Random(3).randbytes(9000))
EMPTY = MachineFile(name="web.vmxf", content=b"")
both = pytest.mark.parametrize("passphrase", [None, "correct horse"])


class Place:
    """A repository in which one point is being written."""

    def __init__(self, tmp_path: Path, passphrase: str | None = None) -> None:
        self.repository = Repository.create(tmp_path / "r", FILES, "id", CLOCK.now())
        self.passphrase = passphrase
        options = StoreOptions(unit_size=256 << 10, passphrase=passphrase, passphrase_cost=CHEAP)
        self.opened: OpenPoint = begin_point(self.repository, SessionId("s"), snapshot_of(bytes(65536), 0), options)
        self.folder = self.repository.chain_folder(self.opened.chain)
        self.path = self.folder / self.opened.file

    def put(self, *files: MachineFile) -> None:
        with self.writer() as writer:
            put_files(writer, 1, files)

    def writer(self) -> ChainWriter:
        return ChainWriter.resume(FILES, self.path, self.passphrase)

    def finish(self) -> PointSummary:
        with self.writer() as writer:
            disk = open_disk(writer, 1, KEY, None)
            disk.zero_until(disk.pieces)
            disk.finish()
        return finish_point(self.repository, self.opened, self.passphrase)

    def read(self) -> tuple[MachineFile, ...]:
        with self.repository.open_chain(self.opened.chain, self.passphrase) as chain:
            return read_files(chain, 1).files

    def spoil(self, name: str) -> None:
        """Change a byte of a machine file's record."""
        with self.repository.open_chain(self.opened.chain, self.passphrase) as chain:
            [entry] = [file for file in chain.point(1)[1].machine_files if file.name == name]
        data = bytearray(self.path.read_bytes())
        data[entry.ref.offset + 85] ^= 1
        self.path.write_bytes(data)


@both
def test_files_come_back_as_they_were(tmp_path: Path, passphrase: str | None) -> None:
    place = Place(tmp_path, passphrase)
    place.put(VMX, NVRAM, EMPTY)
    place.finish()
    assert place.read() == (VMX, NVRAM, EMPTY)
    report = verify_folder(FILES, place.folder, passphrase, lambda _: None)
    assert report.is_good
    assert report.stored_bytes > 9000


def test_bytes_of_an_encrypted_chain_are_not_in_its_file(tmp_path: Path) -> None:
    place = Place(tmp_path, "correct horse")
    place.put(NVRAM)
    place.finish()
    assert NVRAM.content[:64] not in place.path.read_bytes()


def test_putting_the_same_files_again_writes_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put(VMX, NVRAM)
    before = place.path.read_bytes()
    with place.writer() as writer:
        generation = writer.committed.generation
        put_files(writer, 1, [VMX, NVRAM])
        assert writer.committed.generation == generation
    assert place.path.read_bytes() == before


def test_a_later_attempt_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    """The space of what it replaces is written again, like that of other pages."""
    place = Place(tmp_path)
    place.put(VMX, NVRAM)
    newer = MachineFile(name=NVRAM.name, content=NVRAM.content[::-1])
    with place.writer() as writer:
        for content in (newer, NVRAM, newer, NVRAM, newer):
            put_files(writer, 1, [content, EMPTY])
        size = writer.end
        for content in (NVRAM, newer) * 8:
            put_files(writer, 1, [content, EMPTY])
        assert writer.end == size
    place.finish()
    assert place.read() == (newer, EMPTY)
    assert verify_folder(FILES, place.folder, None, lambda _: None).is_good


def test_a_point_may_end_without_files(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put(VMX)
    place.put()
    place.finish()
    assert place.read() == ()


def test_a_complete_point_takes_no_files(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.finish()
    with place.writer() as writer:
        with pytest.raises(RequestInvalid, match="is complete"):
            put_files(writer, 1, [VMX])
        with pytest.raises(PointNotFound):
            put_files(writer, 2, [VMX])


def test_the_root_of_a_point_covers_its_files(tmp_path: Path) -> None:
    """Other files, other root; the parent of the next point is bound by it."""
    place = Place(tmp_path)
    place.put(VMX)
    summary = place.finish()
    with place.repository.open_chain(place.opened.chain, None) as chain:
        assert chain.point(1)[1].root == summary.root
    second = back_up(place.repository, bytes(65536), 1, None)
    with place.repository.open_chain(place.opened.chain, None) as chain:
        assert chain.point(second.number)[1].parent_root == summary.root
        assert read_files(chain, second.number).files == ()


@both
def test_damage_to_a_file_is_named_and_hides_no_other(tmp_path: Path, passphrase: str | None) -> None:
    place = Place(tmp_path, passphrase)
    place.put(VMX, NVRAM)
    place.finish()
    place.spoil(NVRAM.name)
    [damage] = verify_folder(FILES, place.folder, passphrase, lambda _: None).damages
    assert damage.reason.startswith("machine file 'web.nvram': ")
    assert (damage.point, damage.disk, damage.file) == (1, "", place.opened.file)
    with place.repository.open_chain(place.opened.chain, passphrase) as chain:
        found = read_files(chain, 1)
    assert found.files == (VMX,)
    assert [file.name for file in found.left_out] == [NVRAM.name]


def test_an_inspection_shows_the_files(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put(VMX, NVRAM)
    place.finish()
    report = inspect_file(FILES, place.path, records_listed=100)
    assert report.is_sound
    tables = {table.name: table for table in report.tables}
    assert tables["machine file web.nvram at point 1"].stored_bytes > 9000
    assert report.scan is not None
    assert report.scan.by_kind["file"] == 2
    place.spoil(NVRAM.name)
    damaged = {table.name: table for table in inspect_file(FILES, place.path).tables}
    assert damaged["machine file web.nvram at point 1"].problems
    assert not damaged["machine file web.vmx at point 1"].problems


@both
def test_a_rebuild_keeps_the_files(tmp_path: Path, passphrase: str | None) -> None:
    place = Place(tmp_path, passphrase)
    place.put(VMX, NVRAM)
    summary = place.finish()
    lose_structure(place.path)
    report = rebuild_file(FILES, place.folder, place.opened.file, passphrase)
    assert report.lost_files == ()
    assert place.read() == (VMX, NVRAM)
    with place.repository.open_chain(place.opened.chain, passphrase) as chain:
        assert chain.point(1)[1].root == summary.root
    assert verify_folder(FILES, place.folder, passphrase, lambda _: None).is_good


@both
def test_a_rebuild_says_which_files_are_lost_and_still_proves_the_point(tmp_path: Path, passphrase: str | None) -> None:
    place = Place(tmp_path, passphrase)
    place.put(VMX, NVRAM)
    summary = place.finish()
    place.spoil(NVRAM.name)
    lose_structure(place.path)
    for _ in range(2):
        report = rebuild_file(FILES, place.folder, place.opened.file, passphrase)
        assert report.lost_files == (NVRAM.name,)
        with place.repository.open_chain(place.opened.chain, passphrase) as chain:
            assert chain.point(1)[1].root == summary.root
            found = read_files(chain, 1)
        assert found.files == (VMX,)
        assert found.left_out[0].reason == "machine file 'web.nvram' was lost when the chain file was rebuilt"
        [damage] = verify_folder(FILES, place.folder, passphrase, lambda _: None).damages
        assert damage.reason.endswith("was lost when the chain file was rebuilt")
        lose_structure(place.path)


def test_no_file_of_a_machine_is_ever_taken_for_the_contents_of_a_chain(tmp_path: Path) -> None:
    """A guest may write what looks like a contents page; its record is of another kind."""
    place = Place(tmp_path)
    with place.writer() as writer:
        body = writer.store.body(writer.committed.root)
    trap = MachineFile(name="web.nvram", content=body.replace(b"web 01", b"trap 1"))
    place.put(VMX)
    place.finish()
    with place.writer() as writer:
        for _ in range(30):
            writer.stamp(1)
        record = writer.sealer.page(writer.stamp(1), trap.content, RecordKind.FILE)
    data = place.path.read_bytes() + b"".join(bytes(buffer) for buffer in record)
    place.path.write_bytes(data)
    lose_structure(place.path)
    rebuild_file(FILES, place.folder, place.opened.file, None)
    with place.repository.open_chain(place.opened.chain, None) as chain:
        assert chain.point(1)[1].machine.name == "web 01"


def lose_structure(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(RECORDS_START))
