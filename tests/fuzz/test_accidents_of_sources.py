"""Accidents that other programs had with what they were told and given: by disks, libraries and storages."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple, TypeAlias

import lz4.block
import msgspec
import pytest
import zstandard
from typing_extensions import override

from activities.contracts.transfer import CopyDisk
from holdfast.errors import ChainBroken, FileDamaged, HoldfastError
from holdfast.formats.chain_metadata import encode_metadata
from holdfast.formats.keys import ChainKeys, plain_keys
from holdfast.formats.magic import PIECE_SIZE, SUPERBLOCK_SIZE
from holdfast.formats.superblock import pack_superblock
from holdfast.model.compression import Compression
from holdfast.model.ids import ChangeId, DiskKey, MachineId, SnapshotId
from holdfast.model.machine import Machine
from holdfast.model.plan import ReadMode
from holdfast.model.spans import Span, subtract
from holdfast.planning.change_trust import SAMPLE_UNIT, doubtful_points
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.providers.ports import SourceDisk
from holdfast.providers.raw_disks import FrozenDisk
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chain_files.chain_writer import ChainWriter, FileSpec
from holdfast.storage.chains.chain import Chain
from holdfast.storage.chains.metadata import METADATA_NAME, describe
from holdfast.storage.health.folder import verify_folder
from holdfast.storage.methods.reversing import ReverseOptions, make_newest_full
from holdfast.testing.chains import restored
from holdfast.testing.crashfs import CrashFiles
from tests.activities.lab import PIECE, Lab, run
from tests.fuzz.three_points import FULL, THIRD, Place, every_change, lost, place_of, three_points
from tests.holdfast.storage.conftest import make_machine

SIZE = 6 * SAMPLE_UNIT


Compress: TypeAlias = Callable[[bytes], bytes]


class LyingProvider(LocalProvider):
    """Tells neither changes nor content in some spans of a disk; what is read there is the truth."""

    hidden: tuple[Span, ...] = ()

    @override
    def changed_spans(
        self, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey, since: ChangeId
    ) -> Iterator[Span]:
        return self._told(super().changed_spans(machine_id, snapshot_id, key, since))

    @override
    def open_disk(self, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey) -> SourceDisk:
        disk = super().open_disk(machine_id, snapshot_id, key)
        assert isinstance(disk, FrozenDisk)
        found = tuple(self._told(disk.allocated_spans()))
        disk.allocated_spans = lambda: iter(found)  # type: ignore[method-assign] # a disk of this provider
        return disk

    def _told(self, spans: Iterator[Span]) -> Iterator[Span]:
        return subtract(spans, self.hidden)


@pytest.fixture
def lab(tmp_path: Path, seed: int) -> Lab:
    return Lab(tmp_path, seed)


class Source(NamedTuple):
    """A machine with a disk of which its provider does not tell everything."""

    lab: Lab
    provider: LyingProvider
    machine: Machine

    def begun(self, tag: str, **changes: object) -> CopyDisk:
        return msgspec.structs.replace(self.lab.begun(self.machine, tag), **changes)

    def back_up(self, tag: str, **changes: object) -> tuple[ReadMode, bool]:
        """Make a point; return how the disk was read, and whether the point holds what the disk did."""
        request = self.begun(tag, **changes)
        copied = run(self.lab.transfers.copy_disk, request)
        point = self.lab.finish(request.point)
        stored = restored(self.lab.repository, point.chain, point.number, request.disk, None)
        return copied.decision.mode, stored == self.content()

    def content(self) -> bytes:
        return self.lab.content(self.machine)

    def doubtful(self) -> list[int]:
        [chain] = {found.chain for found in self.lab.repository.points()}
        with self.lab.repository.open_chain(chain, None) as opened:
            history = [(p.number, {disk.key: disk.detail for disk in p.disks}) for _, p in opened.points()]
        return sorted(doubtful_points(history))


@pytest.fixture
def source(lab: Lab) -> Source:
    provider = LyingProvider(lab.root / "provider", lab.clock)
    lab.provider = provider
    return Source(lab, provider, lab.add_machine(size_bytes=SIZE))


def test_benji_136_a_hole_that_is_none_is_found_by_the_next_run(source: Source) -> None:
    source.provider.hidden = (Span(3 * PIECE, 2 * PIECE),)
    assert source.back_up("s1") == (ReadMode.FULL, False)  # a first point has nothing to be compared with
    assert source.back_up("s2") == (ReadMode.COMPARED, True)
    assert source.back_up("s3") == (ReadMode.CHANGED, True)


def test_benji_136_who_distrusts_what_is_told_reads_every_byte(source: Source) -> None:
    source.provider.hidden = (Span(0, SIZE),)
    assert source.back_up("s1", distrust_changes=True) == (ReadMode.FULL, True)
    source.lab.overwrite(source.machine, 7 * PIECE, PIECE)
    assert source.back_up("s2", distrust_changes=True) == (ReadMode.COMPARED, True)


def test_vmware_2090639_a_disk_that_grew_is_read_whole_whatever_is_told(source: Source) -> None:
    source.back_up("s1")
    before = source.content()
    with source.lab.disk_path(source.machine).open("r+b") as disk:
        disk.truncate(2 * SIZE)
    for offset in (2 * PIECE, SIZE - 4 * PIECE, SIZE + 9 * PIECE):
        source.lab.overwrite(source.machine, offset, 6 * PIECE)
    source.provider.hidden = (Span(0, 2 * SIZE),)  # it lost track behind a boundary, and tells nothing
    [first] = source.lab.repository.points()
    assert source.back_up("s2", sample_bytes=0) == (ReadMode.COMPARED, True)
    with source.lab.repository.open_chain(first.chain, None) as chain:
        assert chain.disk(1, "disk0").size_bytes == len(before) == SIZE


def test_vmware_2136854_a_change_that_is_never_told_is_found_within_a_round_of_samples(source: Source) -> None:
    """A part of each stretch of the disk is compared each time, and every part has its turn."""
    source.back_up("s1")
    source.provider.hidden = (Span(4 * SAMPLE_UNIT + PIECE, PIECE),)
    source.lab.overwrite(source.machine, 4 * SAMPLE_UNIT + PIECE, PIECE)
    found = [source.back_up(f"s{turn}", sample_bytes=SAMPLE_UNIT) for turn in range(2, 2 + SIZE // SAMPLE_UNIT)]
    modes, is_right = [mode for mode, _ in found], [right for _, right in found]
    assert modes.count(ReadMode.COMPARED) == 1
    turn = modes.index(ReadMode.COMPARED)
    assert is_right == [False] * turn + [True] * (len(found) - turn)
    assert source.doubtful() == list(range(2, 2 + turn))


def test_vmware_2136854_who_distrusts_tracking_has_all_of_it_at_once(source: Source) -> None:
    source.back_up("s1")
    source.provider.hidden = (Span(PIECE, 4 * PIECE),)
    source.lab.overwrite(source.machine, 2 * PIECE, 2 * PIECE)
    assert source.back_up("s2", sample_bytes=0) == (ReadMode.CHANGED, False)
    assert source.back_up("s3", distrust_changes=True) == (ReadMode.COMPARED, True)


@every_change
def test_virtnbdbackup_240_a_disk_that_was_left_out_and_comes_back_is_whole(
    change: Callable[[Place], object],
) -> None:
    """It was excluded from one point and changed meanwhile, zeros among it."""
    machine = make_machine({"a": 6, "b": 8})
    machine.back_up(at_once=True)
    away = machine.disks.pop("b")
    machine.disks["a"].write(Span(0, PIECE_SIZE))
    machine.back_up(at_once=True)
    away.zero(Span(0, 3 * PIECE_SIZE))
    away.write(Span(5 * PIECE_SIZE, PIECE_SIZE))
    machine.disks["b"] = away
    machine.back_up(at_once=True)
    place = place_of(machine)
    change(place)
    assert lost(place) == []


def other_bytes(compress: Compress, body: bytes) -> bytes:
    """Return what is whole and holds other bytes."""
    changed = bytearray(body)
    changed[len(changed) // 2] ^= 1
    return compress(bytes(changed))


def half_of_it(compress: Compress, body: bytes) -> bytes:
    """Return what cannot be decoded."""
    packed = compress(body)
    return packed[: len(packed) // 2]


class SpoiltLibrary:
    """Compresses as the libraries do, but for one body, which is spoilt."""

    def __init__(self, spoiling: int, harm: Callable[[Compress, bytes], bytes]) -> None:
        self._left = spoiling
        self._harm = harm
        self._zstd, self._lz4 = zstandard.ZstdCompressor, lz4.block.compress

    @property
    def has_spoilt(self) -> bool:
        return self._left < 0

    def installed(self) -> AbstractContextManager[object]:
        """Return a context within which it takes the place of the libraries."""
        patched = pytest.MonkeyPatch()
        patched.setattr(zstandard, "ZstdCompressor", self._zstd_compressor)
        patched.setattr(lz4.block, "compress", self._compress_lz4)
        stack = ExitStack()
        stack.callback(patched.undo)
        return stack

    def _zstd_compressor(self, level: int) -> SimpleNamespace:
        return SimpleNamespace(compress=partial(self._compress, self._zstd(level=level).compress))

    def _compress_lz4(self, body: bytes, *, store_size: bool) -> bytes:
        return self._compress(partial(self._lz4, store_size=store_size), body)

    def _compress(self, compress: Compress, body: bytes) -> bytes:
        self._left -= 1
        return self._harm(compress, bytes(body)) if self._left == -1 else compress(body)


@pytest.mark.parametrize("harm", [other_bytes, half_of_it])
@pytest.mark.parametrize("level", [Compression.LZ4, Compression.ZSTD_1, Compression.ZSTD_9])
def test_restic_4523_and_4677_what_a_library_spoils_is_noticed_before_it_counts(
    level: Compression, harm: Callable[[Compress, bytes], bytes]
) -> None:
    """Whatever it spoils, units and tables, of a backup and of a reverse step."""
    base = _half_of_zeros(level)

    def back_up(place: Place) -> None:
        place.machine.rewind(1)
        place.machine.sessions = 2
        opened = place.machine.begin()
        if not any(found.point.number == 2 and found.point.complete for found in place.machine.repository.points()):
            place.machine.transfer_all(opened)
        place.machine.finish(opened)

    def turn_round(place: Place) -> None:
        make_newest_full(place.files, place.folder, None, options=ReverseOptions(compression=level))

    for step in (back_up, turn_round):
        number = failed = 0
        while True:
            library = SpoiltLibrary(number, harm)
            place = base.at(base.files.copy())
            with library.installed():
                try:
                    step(place)
                    _expect_sound(place)  # what compression makes no smaller is stored as it is
                except HoldfastError:
                    failed += 1
            if not library.has_spoilt:
                break
            assert place.machine.differences() == []
            step(place)
            _expect_sound(place)
            number += 1
        assert failed > 3
        base = place


def _expect_sound(place: Place) -> None:
    assert place.machine.differences() == []
    assert verify_folder(place.files, place.folder, None, lambda _: None).is_good


def _half_of_zeros(level: Compression) -> Place:
    """Return a machine of which every other part of a piece is zeros, so that there is something to compress."""
    machine = make_machine({"a": 8})
    machine.pipe = msgspec.structs.replace(machine.pipe, compression=level)
    for offset in range(0, 8 * PIECE_SIZE, 4096):
        machine.disks["a"].zero(Span(offset, 2048))
    machine.back_up()
    machine.disks["a"].zero(Span(0, PIECE_SIZE))
    for offset in range(PIECE_SIZE, 4 * PIECE_SIZE, 4096):
        machine.disks["a"].write(Span(offset, 1024))
    return place_of(machine)


class Forger(NamedTuple):
    """Somebody who writes to the repository and has no key: everything that is not encrypted he knows."""

    place: Place
    keys: ChainKeys
    """His own, under the chain's id and envelope."""

    def metadata(self) -> bytes:
        """Return metadata that list one point fewer."""
        with Chain.open(self.place.files, self.place.folder, "secret") as chain:
            told = describe(chain, 99)
        fewer = msgspec.structs.replace(told, files=told.files[:2], points=told.points[:2])
        return encode_metadata(fewer, self.keys, bytes(16))

    def superblocks(self) -> bytes:
        """Return the newest file with both superblocks leading to a record that he chose."""
        path = self.place.folder / THIRD
        content = bytearray(self.place.files.content(path))
        with ChainFile.open(self.place.files, path, "secret") as file:
            block, unit = file.superblock, file.unit(0)
        assert unit is not None
        root = msgspec.structs.replace(block.root, offset=unit.offset, length=unit.length)
        for generation in (block.generation + 1, block.generation + 2):
            forged = msgspec.structs.replace(block, generation=generation, root=root)
            content[forged.slot_offset : forged.slot_offset + SUPERBLOCK_SIZE] = pack_superblock(forged, self.keys)
        return bytes(content)

    def plain_file(self) -> bytes:
        """Return the newest file as one that is not encrypted, with content of his own."""
        with ChainFile.open(self.place.files, self.place.folder / THIRD, "secret") as file:
            contents, block = file.contents, file.superblock
        files = CrashFiles([self.place.folder])
        spec = FileSpec(
            kind=block.kind, unit_size=block.unit_size, contents=msgspec.structs.replace(contents, points=())
        )
        with ChainWriter.create(files, self.place.folder / THIRD, spec, plain_keys(block.chain_id)) as writer:
            writer.commit_complete()
        return files.content(self.place.folder / THIRD)


def forgery() -> Forger:
    place = three_points(passphrase="secret")
    with ChainFile.open(place.files, place.folder / FULL, "secret") as file:
        envelope, chain_id = file.superblock.envelope, file.superblock.chain_id
    return Forger(place, ChainKeys(chain_id, envelope, b"k" * 32))


def test_borg_2016_10099_metadata_made_without_the_key_hide_no_point() -> None:
    forger = forgery()
    place = forger.place
    place.files.set_content(place.folder / METADATA_NAME, forger.metadata())
    with pytest.raises(FileDamaged, match="seal does not match"):
        place.machine.back_up()
    assert lost(place) == []
    assert len([*place.machine.repository.points("secret")]) == 3


def test_borg_2016_10099_superblocks_made_without_the_key_lead_nowhere() -> None:
    forger = forgery()
    place = forger.place
    place.files.set_content(place.folder / THIRD, forger.superblocks())
    with pytest.raises(FileDamaged, match="seal does not match"):
        place.machine.back_up()
    with Chain.open(place.files, place.folder, "secret") as chain:
        assert [point.number for _, point in chain.points()] == [1, 2]
        with pytest.raises(FileDamaged, match="seal does not match"):
            chain.check_whole()


def test_borg_2016_10099_a_plain_file_does_not_pass_for_one_that_is_encrypted() -> None:
    forger = forgery()
    place = forger.place
    place.files.set_content(place.folder / THIRD, forger.plain_file())
    with pytest.raises(ChainBroken), Chain.open(place.files, place.folder, "secret"):
        pass
    assert place.machine.back_up().kind == "full"  # whatever stands there, nothing is built upon it
    del place.machine.kept[:-1]
    assert place.machine.differences() == []
