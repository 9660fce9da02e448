"""Chains that an earlier version wrote are read exactly, by the product and by a reader that shares nothing with it."""

import hashlib
import json
import os
import shutil
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from blake3 import blake3

from holdfast.clock import SystemClock
from holdfast.errors import FormatTooNew, PassphraseWrong, PointNotFound
from holdfast.formats.keys import plain_keys
from holdfast.formats.magic import PIECE_SIZE, RECORD_MAGIC, Cipher, Codec, FileKind, FileState, RecordKind
from holdfast.formats.record import RecordHeader, unpack_header
from holdfast.model.spans import Span
from holdfast.pipeline.restore import DiskRestore
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chains.chain import Chain
from holdfast.storage.chains.metadata import check_against_metadata, read_metadata, refresh_metadata
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.health.verifier import verify_chain
from holdfast.storage.points.point_files import read_files
from holdfast.storage.points.point_writer import complete_point, open_disk
from tests.second_reader import reader

ROOT = Path(__file__).parent / "v1"
MANIFEST_DIGEST = "2998ce0d89c0c267de18b23ea2e85aa6830fee83ae53ed82134a14a6e1050405"
MANIFEST: dict[str, Any] = json.loads((ROOT / "manifest.json").read_text())
FILES = HostFiles()
Spans = list[list[int | str]]

every_chain = pytest.mark.parametrize("name", MANIFEST)
every_point = pytest.mark.parametrize(
    "name, number",
    [(name, point["number"]) for name in MANIFEST for point in MANIFEST[name]["points"] if point["complete"]],
)


class Target:
    """A disk that is being restored; it expects every byte once, in order."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.reached = 0
        self.pieces: dict[int, bytes] = {}

    def write(self, offset: int, data: memoryview) -> None:
        assert offset == self.reached
        for at in range(0, len(data), PIECE_SIZE):
            self.pieces[(offset + at) // PIECE_SIZE] = bytes(data[at : at + PIECE_SIZE])
        self.reached += len(data)

    def write_zeros(self, span: Span) -> None:
        assert span.start == self.reached
        self.reached += span.length

    def read_into(self, offset: int, buffer: memoryview) -> None:
        raise AssertionError("a restore reads nothing back by itself")

    def flush(self) -> None:
        """Memory needs none."""

    def close(self) -> None:
        """Memory needs none."""


@contextmanager
def opened(name: str, folder: Path | None = None) -> Iterator[Chain]:
    chain = Chain.open(FILES, ROOT / name if folder is None else folder, MANIFEST[name]["passphrase"])
    with chain:
        yield chain


def point_of(name: str, number: int) -> dict[str, Any]:
    [point] = [point for point in MANIFEST[name]["points"] if point["number"] == number]
    return dict(point)


def restored(chain: Chain, number: int, key: str) -> Target:
    disk = chain.disk(number, key)
    target = Target(disk.size_bytes)
    DiskRestore(disk, target, chain.files[0].keys.digest_key, SystemClock()).run(0, lambda _: None)  # type: ignore[arg-type]
    assert target.reached == disk.size_bytes
    return target


def spans_of(pieces: dict[int, bytes], size: int) -> Spans:
    """Return what the manifest says of a disk with these pieces."""
    found: list[tuple[int, bytearray]] = []
    for number, data in sorted(pieces.items()):
        if not any(data):
            continue
        if found and found[-1][0] + len(found[-1][1]) == number * PIECE_SIZE:
            found[-1][1].extend(data)
        else:
            found.append((number * PIECE_SIZE, bytearray(data)))
    return [[start, min(len(data), size - start), hashlib.sha256(data).hexdigest()] for start, data in found]


def pieces_of(path: Path) -> dict[int, bytes]:
    """Return the pieces of a sparse file that may hold anything but zeros."""
    pieces: dict[int, bytes] = {}
    with path.open("rb") as stream:
        size, at = path.stat().st_size, 0
        while at < size:
            try:
                at = os.lseek(stream.fileno(), at, os.SEEK_DATA) // PIECE_SIZE * PIECE_SIZE
            except OSError:
                break  # only a hole is left
            stream.seek(at)
            pieces[at // PIECE_SIZE] = stream.read(PIECE_SIZE)
            at += PIECE_SIZE
    return pieces


def second_reader(name: str, folder: Path, number: int, out: Path) -> int:
    arguments = [str(folder), "--restore", str(number), "--machine", MANIFEST[name]["machine"], "--out", str(out)]
    if MANIFEST[name]["passphrase"] is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        secret = out.parent / "passphrase"
        secret.write_text(MANIFEST[name]["passphrase"] + "\n")
        arguments += ["--passphrase-file", str(secret)]
    return reader.main([*arguments, "--check", "full"])


def headers(path: Path) -> Iterator[RecordHeader]:
    """Yield the header of every record in a file, committed or left over."""
    data = path.read_bytes()
    for at in range(8192, len(data), 4096):
        if data[at : at + 8] == RECORD_MAGIC:
            yield unpack_header(data[at : at + 80])


# ---------------------------------------------------------------------------------------------------- the bytes


def test_the_manifest_is_the_one_it_was() -> None:
    assert hashlib.sha256((ROOT / "manifest.json").read_bytes()).hexdigest() == MANIFEST_DIGEST


@every_chain
def test_golden_bytes_never_change(name: str) -> None:
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (ROOT / name).iterdir()}
    assert found == MANIFEST[name]["files"]


def test_there_is_nothing_beside_the_golden_chains() -> None:
    assert {path.name for path in ROOT.iterdir()} == {*MANIFEST, "manifest.json"}


def test_golden_chains_stay_small() -> None:
    assert sum(path.stat().st_size for path in ROOT.rglob("*") if path.is_file()) < 3 << 19


# ---------------------------------------------------------------------------------------------------- reading


@every_point
def test_every_point_restores_exactly(name: str, number: int) -> None:
    expected = point_of(name, number)["disks"]
    with opened(name) as chain:
        _, point = chain.point(number)
        assert {disk.key: disk.size for disk in point.disks} == {key: disk["size"] for key, disk in expected.items()}
        for key, disk in expected.items():
            assert spans_of(restored(chain, number, key).pieces, disk["size"]) == disk["spans"]


@every_point
def test_every_point_restores_exactly_by_the_second_reader(name: str, number: int, tmp_path: Path) -> None:
    expected = point_of(name, number)["disks"]
    assert second_reader(name, ROOT / name, number, tmp_path / "out") == 0
    files = point_of(name, number).get("files", {})
    written = {f"{quote(key, safe='')}.raw" for key in expected} | ({"files"} if files else set())
    assert {path.name for path in (tmp_path / "out").iterdir()} == written
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "out").glob("files/*")}
    assert found == files
    for key, disk in expected.items():
        path = tmp_path / "out" / f"{quote(key, safe='')}.raw"
        assert path.stat().st_size == disk["size"]
        assert spans_of(pieces_of(path), disk["size"]) == disk["spans"]


@every_point
def test_every_machine_file_is_read_exactly(name: str, number: int) -> None:
    with opened(name) as chain:
        found = read_files(chain, number)
    assert found.left_out == ()
    assert {file.name: hashlib.sha256(file.content).hexdigest() for file in found.files} == (
        point_of(name, number).get("files", {})
    )


@every_chain
def test_every_chain_is_verified_clean(name: str) -> None:
    with opened(name) as chain:
        report = verify_chain(chain, lambda _: None)
    assert report.damages == ()
    assert report.is_good
    assert report.points == sum(point["complete"] for point in MANIFEST[name]["points"])
    assert report.units > 0


@every_chain
def test_every_metadata_file_is_read_and_agrees_with_its_chain(name: str, tmp_path: Path) -> None:
    folder = shutil.copytree(ROOT / name, tmp_path / name)
    with opened(name) as chain:
        metadata = read_metadata(FILES, folder, chain.files[0].keys)
        assert metadata is not None
        check_against_metadata(chain, metadata)
    # What it says of finished files is what a rebuild would say.
    rebuilt = refresh_metadata(FILES, folder, MANIFEST[name]["passphrase"])
    assert rebuilt.sequence == metadata.sequence + 1
    assert metadata.files == tuple(file for file in rebuilt.files if file.complete)
    assert metadata.points == tuple(point for point in rebuilt.points if point.complete)


@pytest.mark.parametrize("passphrase", [None, "", "correct horse"])
@pytest.mark.parametrize("name", [name for name in MANIFEST if MANIFEST[name]["passphrase"]])
def test_an_encrypted_chain_opens_with_its_passphrase_alone(name: str, passphrase: str | None) -> None:
    with pytest.raises(PassphraseWrong):
        Chain.open(FILES, ROOT / name, passphrase)


@pytest.mark.parametrize("name", [name for name in MANIFEST if MANIFEST[name]["passphrase"]])
def test_an_encrypted_chain_shows_no_name_and_no_content(name: str) -> None:
    for path in (ROOT / name).iterdir():
        data = path.read_bytes()
        assert not any(word in data for word in (b"golden", b"Golden", b"session", b"configuration", b"unit_size"))


# ---------------------------------------------------------------------------------------------------- what they show


def test_the_golden_chains_show_every_value_of_the_format() -> None:
    records: Counter[tuple[int, int, int]] = Counter()
    files: set[tuple[FileKind, FileState]] = set()
    depths: set[int] = set()
    unit_sizes: set[int] = set()
    for name in MANIFEST:
        for path in (ROOT / name).glob("*.hfc"):
            records.update((header.kind, header.codec, header.cipher) for header in headers(path))
        with opened(name) as chain:
            for file in chain.files:
                files.add((file.superblock.kind, file.superblock.state))
                unit_sizes.add(file.superblock.unit_size)
                depths.update(disk.map.depth for point in file.contents.points for disk in point.disks)
    assert {kind for kind, _, _ in records} == set(RecordKind)
    units = {(codec, cipher) for kind, codec, cipher in records if kind == RecordKind.UNIT}
    assert {codec for codec, _ in units} == set(Codec)
    assert {cipher for _, cipher in units} == set(Cipher)
    assert files >= {(kind, FileState.COMPLETE) for kind in (FileKind.FULL, FileKind.INCREMENT)}
    assert (FileKind.INCREMENT, FileState.OPEN) in files
    assert unit_sizes == {256 << 10, 512 << 10, 1 << 20, 4 << 20}
    assert depths == {0, 1}


def test_equal_pieces_are_stored_once() -> None:
    with opened("plain-zstd") as chain:
        file, disk = chain.files[0], chain.disk(1, "scsi0:0")
        places = [run.place + at for run in disk.runs(0, disk.pieces) if run.file for at in range(run.count)]
        assert len(set(places)) < len(places)
        assert file.place(0, 0) == file.place(0, 7) == file.place(0, 11)


@pytest.mark.parametrize("name", [name for name in MANIFEST if MANIFEST[name]["passphrase"]])
def test_no_nonce_was_used_twice_under_a_key(name: str) -> None:
    nonces: Counter[tuple[bytes, int, int]] = Counter()
    for path in (ROOT / name).glob("*.hfc"):
        stamps = [header.stamp for header in headers(path)]
        nonces.update((stamp.key_id, stamp.generation, stamp.number) for stamp in stamps)
    assert len(nonces) > 10
    assert set(nonces.values()) == {1}


# ---------------------------------------------------------------------------------------------------- the cut-off one


def test_a_point_that_was_cut_off_is_not_restored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with opened("encrypted-lz4") as chain:
        assert [point.complete for _, point in chain.points()] == [True, False]
        with pytest.raises(PointNotFound):
            chain.disk(2, "left")
    assert second_reader("encrypted-lz4", ROOT / "encrypted-lz4", 2, tmp_path / "out") == 1
    assert "point 2 is not complete" in capsys.readouterr().err


def test_a_point_that_was_cut_off_is_continued(tmp_path: Path) -> None:
    """The rest of the disk is made zeros, so that what was committed and what came later can be told apart."""
    name = "encrypted-lz4"
    folder = shutil.copytree(ROOT / name, tmp_path / name)
    expected = point_of(name, 2)["disks"]
    path = folder / "00000002-increment.hfc"
    with opened(name, folder) as chain, ChainWriter.resume(FILES, path, MANIFEST[name]["passphrase"]) as writer:
        left = open_disk(writer, 2, "left", chain.disk(1, "left"))
        assert left.is_done
        right = open_disk(writer, 2, "right", chain.disk(1, "right"))
        kept = right.cursor
        assert 0 < kept < right.pieces
        right.zero_until(right.pieces)
        right.finish()
        complete_point(writer, 2)
    with opened(name, folder) as chain:
        assert verify_chain(chain, lambda _: None).is_good
        assert spans_of(restored(chain, 2, "left").pieces, expected["left"]["size"]) == expected["left"]["spans"]
        found = spans_of(restored(chain, 2, "right").pieces, expected["right"]["size"])
    committed = [span for span in expected["right"]["spans"] if span[0] + span[1] <= kept * PIECE_SIZE]
    assert found == committed
    assert 0 < len(committed) < len(expected["right"]["spans"])
    assert second_reader(name, folder, 2, tmp_path / "out") == 0
    assert spans_of(pieces_of(tmp_path / "out" / "right.raw"), expected["right"]["size"]) == committed


# ---------------------------------------------------------------------------------------------------- other versions


def rewrite_version(path: Path, slots: tuple[int, ...], version: int, reader_min: int) -> None:
    """Let superblocks of a plain file name other versions, with right checksum and seal."""
    data = bytearray(path.read_bytes())
    for slot in slots:
        block = data[slot * 4096 : (slot + 1) * 4096]
        struct.pack_into("<HH", block, 8, version, reader_min)
        block[4060:4064] = zlib.crc32(block[:4060]).to_bytes(4, "little")
        key = plain_keys(bytes(block[32:48])).seal_key(bytes(block[48:64]))
        block[4064:] = blake3(block[:4064], key=key).digest()
        data[slot * 4096 : (slot + 1) * 4096] = block
    path.write_bytes(data)


@pytest.mark.parametrize("slots", [(0,), (1,), (0, 1)])
def test_a_file_for_newer_readers_is_refused(
    slots: tuple[int, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(ROOT / "plain-none", tmp_path / "chain")
    rewrite_version(folder / "00000002-increment.hfc", slots, 2, 2)
    with opened("plain-none", folder) as chain:
        with pytest.raises(FormatTooNew, match=r"00000002-increment\.hfc: .*version 2, this one knows 1$"):
            chain.check_whole()
        with pytest.raises(PointNotFound):
            chain.disk(2, "d0")
        assert chain.disk(1, "d0").size_bytes == 6 * PIECE_SIZE
    assert second_reader("plain-none", folder, 1, tmp_path / "out") == 1
    assert "00000002-increment.hfc: " in (message := capsys.readouterr().err)
    assert "version 2" in message


def test_a_file_of_a_newer_writer_that_says_so_is_read(tmp_path: Path) -> None:
    folder = shutil.copytree(ROOT / "plain-none", tmp_path / "chain")
    rewrite_version(folder / "00000002-increment.hfc", (0, 1), 2, 1)
    disk = point_of("plain-none", 2)["disks"]["d0"]
    with opened("plain-none", folder) as chain:
        assert spans_of(restored(chain, 2, "d0").pieces, disk["size"]) == disk["spans"]
    assert second_reader("plain-none", folder, 2, tmp_path / "out") == 0
    assert spans_of(pieces_of(tmp_path / "out" / "d0.raw"), disk["size"]) == disk["spans"]
