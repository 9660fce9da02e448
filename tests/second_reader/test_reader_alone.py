"""The second reader on chain files that were laid out here by the page."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING

import pytest

from tests.second_reader import reader, scan
from tests.second_reader.chain_builder import (
    KEYS,
    MACHINE,
    PASSPHRASE,
    PIECE,
    SIZES,
    TinyChain,
    change_payload,
    seal_again,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.second_reader.chain_builder import Contents


@pytest.fixture(params=[False, True], ids=["plain", "encrypted"])
def chain(request: pytest.FixtureRequest, tmp_path: Path) -> TinyChain:
    """A full with equal pieces, an increment that overwrites, clears and adds, and one that changes nothing."""
    (tmp_path / "chain").mkdir()
    (tmp_path / "passphrase").write_text(PASSPHRASE + "\n")
    rng = random.Random(20260102)
    tiny = TinyChain(tmp_path / "chain", request.param, rng)
    text = [bytes([n]) * 40000 + rng.randbytes(100) + bytes(PIECE - 40100) for n in range(1, 15)]
    tail = rng.randbytes(512) + bytes(PIECE - 512)
    scattered = {70001: text[5], 0: text[3], 9: rng.randbytes(PIECE), 65535: text[4], 8: text[6]}
    scattered |= {70003: text[5], 11: text[0]}
    tiny.add([{0: text[0], 1: text[1], 2: text[2], 3: tail}, scattered], kind=1)
    tiny.add([{1: text[7], 2: bytes(PIECE)}, {0: bytes(PIECE), 70000: text[8], 9: text[9], 12: text[8]}])
    tiny.add([{}, {}])
    return tiny


def run(chain: TinyChain, point: str, out: Path, *more: str) -> int:
    where = [str(chain.folder), "--restore", point, "--machine", MACHINE, "--out", str(out)]
    secret = ["--passphrase-file", str(chain.folder.parent / "passphrase")]
    return reader.main([*where, *(secret if chain.encrypted else []), *more])


def assert_restored(out: Path, disks: Contents) -> None:
    for name, size, disk in zip(("scsi0%3A0", "datastore%2Fbig%20disk"), SIZES, disks, strict=True):
        path = out / f"{name}.raw"
        assert path.stat().st_size == size
        assert path.stat().st_blocks * 512 <= 20 * PIECE
        with path.open("rb") as stream:
            for piece in {*disk, *(p + 1 for p in disk)}:
                stream.seek(piece * PIECE)
                expected = disk.get(piece, bytes(PIECE))[: max(0, size - piece * PIECE)]
                assert stream.read(PIECE) == expected


@pytest.mark.parametrize("check", ["fast", "full"])
def test_restores_what_was_written(chain: TinyChain, tmp_path: Path, check: str) -> None:
    assert run(chain, "latest", tmp_path / "out", "--check", check) == 0
    assert_restored(tmp_path / "out", chain.disks)


def test_restores_an_older_point_by_number(chain: TinyChain, tmp_path: Path) -> None:
    assert run(chain, "1", tmp_path / "out") == 0
    with (tmp_path / "out" / "datastore%2Fbig%20disk.raw").open("rb") as stream:
        assert stream.read(1) == b"\4"
        stream.seek(70000 * PIECE)
        assert not any(stream.read(PIECE))


def test_lists_files_and_points(chain: TinyChain, capsys: pytest.CaptureFixture[str]) -> None:
    secret = ["--passphrase-file", str(chain.folder.parent / "passphrase")]
    assert reader.main([str(chain.folder), "--list", *(secret if chain.encrypted else [])]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "00000001-full.hfc: full, generation 2, 2 slots, complete, holds 1-1"
    assert chain.root
    assert lines[9].endswith(f"complete {chain.root.hex()}")
    assert lines[-1] == "    datastore/big disk 5368709120"


def test_one_lost_superblock_loses_nothing(chain: TinyChain, tmp_path: Path) -> None:
    for path in chain.folder.iterdir():
        spoil(path, 20)
    assert run(chain, "latest", tmp_path / "out") == 0
    assert_restored(tmp_path / "out", chain.disks)


def test_two_lost_superblocks_are_named(chain: TinyChain, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(chain.folder / "00000002-increment.hfc", 20)
    spoil(chain.folder / "00000002-increment.hfc", 4096 + 20)
    assert run(chain, "latest", tmp_path / "out") == 1
    assert "00000002-increment.hfc: offset 0: no superblock slot counts" in capsys.readouterr().err


def test_every_spoilt_unit_is_found_by_the_fast_check(
    chain: TinyChain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for offset in (8192 + 3, 8192 + 70, 8192 + 300):
        spoil(chain.folder / "00000001-full.hfc", offset)
        assert run(chain, "latest", tmp_path / "out") == 1
        assert "00000001-full.hfc: offset 8192: " in capsys.readouterr().err
        spoil(chain.folder / "00000001-full.hfc", offset)
    assert run(chain, "latest", tmp_path / "out") == 0


def test_a_wrong_piece_with_right_checksums_is_found_by_the_full_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "chain").mkdir()
    tiny = TinyChain(tmp_path / "chain", False, random.Random(3))
    rng = random.Random(4)
    path = tiny.add([{p: rng.randbytes(PIECE) for p in range(3)}, {}], kind=1)
    change_payload(path, 3 * 28 + 2 * PIECE)
    assert run(tiny, "1", tmp_path / "out") == 0
    assert run(tiny, "1", tmp_path / "out", "--check", "full") == 1
    assert "00000001-full.hfc: offset 8192: a piece is not" in capsys.readouterr().err


def test_a_missing_file_of_the_chain_is_named(
    chain: TinyChain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (chain.folder / "00000001-full.hfc").unlink()
    assert run(chain, "latest", tmp_path / "out") == 1
    assert "no file holds what point 1 wrote" in capsys.readouterr().err


def test_a_wrong_passphrase_and_an_unknown_point_are_errors(
    chain: TinyChain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(chain, "9", tmp_path / "out") == 1
    assert "no point 9 of machine vm-7" in capsys.readouterr().err
    (tmp_path / "passphrase").write_text("wrong")
    assert run(chain, "1", tmp_path / "out") == int(chain.encrypted)


def test_files_with_other_names_are_no_chain_files(
    chain: TinyChain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("00000009-full.hfc.partial", "0009-full.hfc", "00000009-copy.hfc", "chain.lock"):
        (chain.folder / name).write_bytes(b"anything")
    assert run(chain, "latest", tmp_path / "out") == 0
    (chain.folder / "00000002-increment.hfc").rename(chain.folder / "00000002-full.hfc")
    assert run(chain, "latest", tmp_path / "out") == 1
    assert "offset 12: another kind than the name says" in capsys.readouterr().err


@pytest.mark.parametrize("offset", [128, 132, 136], ids=["memory", "passes", "lanes"])
def test_a_slot_with_an_excessive_passphrase_cost_does_not_count(
    tmp_path: Path, offset: int, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny, path = one_file(tmp_path, encrypted=True)
    cost = {offset: struct.pack("<I", (4 << 20) + 1 if offset == 128 else 65)}
    seal_again(tiny, path, 0, cost)
    assert run(tiny, "1", tmp_path / "out") == 0
    seal_again(tiny, path, 1, cost)
    assert run(tiny, "1", tmp_path / "out") == 1
    assert "00000001-full.hfc: offset 0: no superblock slot counts" in capsys.readouterr().err


@pytest.mark.parametrize(
    "offset, value",
    [(12, b"\2"), (14, b"\x13"), (32, bytes(16)), (48, bytes(16))],
    ids=["kind", "unit size", "chain id", "file id"],
)
def test_slots_that_differ_in_what_both_must_have_are_refused(
    tmp_path: Path, offset: int, value: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny, path = one_file(tmp_path, encrypted=False)
    seal_again(tiny, path, 0, {offset: value})
    assert run(tiny, "1", tmp_path / "out") == 1
    assert "offset 0: the slots differ in" in capsys.readouterr().err


def test_a_plain_slot_slipped_into_an_encrypted_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny, path = one_file(tmp_path, encrypted=True)
    seal_again(tiny, path, 1, {13: b"\0", 112: bytes(16), 152: bytes(48)})
    assert run(tiny, "1", tmp_path / "out") == 1
    assert "offset 4096: plain, and a passphrase was given" in capsys.readouterr().err


def test_a_plain_chain_is_refused_when_a_passphrase_is_given(tmp_path: Path) -> None:
    tiny, _ = one_file(tmp_path, encrypted=False)
    with pytest.raises(reader.Departure, match="plain, and a passphrase was given"):
        reader.restore(tiny.folder, "1", MACHINE, tmp_path / "out", passphrase=PASSPHRASE)


def test_an_encrypted_chain_is_refused_without_a_passphrase(tmp_path: Path) -> None:
    tiny, _ = one_file(tmp_path, encrypted=True)
    with pytest.raises(reader.Departure, match="encrypted, and no passphrase was given"):
        reader.restore(tiny.folder, "1", MACHINE, tmp_path / "out")


@pytest.mark.parametrize("check", ["fast", "full"])
def test_the_function_returns_the_file_of_each_disk(chain: TinyChain, tmp_path: Path, check: str) -> None:
    secret = PASSPHRASE if chain.encrypted else None
    files = reader.restore(chain.folder, "latest", MACHINE, tmp_path / "out", passphrase=secret, check=check)
    assert [files[key].stat().st_size for key in KEYS] == SIZES
    assert_restored(tmp_path / "out", chain.disks)


def test_notes_tell_what_shares_a_place_and_what_became_zeros(chain: TinyChain) -> None:
    full, increment, idle = reader.Chain(chain.folder, PASSPHRASE if chain.encrypted else None).files
    first, second = (scan.disk_tag(full, MACHINE, key) for key in KEYS)
    assert [note[:3] for note in full.notes()] == [(second, 11, 1), (second, 70003, 1)]
    cleared = [(first, 2, 1, bytes(16)), (second, 0, 1, bytes(16))]
    assert [note for note in increment.notes() if not any(note[3])] == cleared
    assert [note[1] for note in increment.notes() if any(note[3])] == [12]
    assert idle.notes() == []


def test_a_scan_for_records_finds_what_the_tables_say(chain: TinyChain) -> None:
    files = reader.Chain(chain.folder, PASSPHRASE if chain.encrypted else None).files
    assert [scan.differences(file) for file in files] == [[], [], []]
    assert [len(scan.tabled(file)) for file in files] == [11, 4, 0]


def test_of_two_files_that_hold_a_point_the_range_that_begins_first_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "chain").mkdir()
    tiny = TinyChain(tmp_path / "chain", False, random.Random(6))
    piece = random.Random(7).randbytes(PIECE)
    full = tiny.add([{}, {}], kind=1)
    tiny.add([{1: piece}, {}])
    tiny.add([{2: piece}, {}])
    assert run(tiny, "latest", tmp_path / "out") == 0
    full.unlink()
    tiny.first = 1  # says to hold all points, but has no piece of the older ones
    tiny.add([{3: bytes(PIECE)}, {}])
    assert run(tiny, "latest", tmp_path / "out") == 1
    assert "nobody has piece 1 of point 2" in capsys.readouterr().err


def test_files_of_different_chains_are_no_chain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny, _ = one_file(tmp_path, encrypted=False)
    tiny.chain_id = bytes(range(16))
    tiny.key = tiny.chain_id * 2
    tiny.add([{}, {}])
    assert run(tiny, "1", tmp_path / "out") == 1
    assert "another chain, cipher or unit size than 00000001-full.hfc" in capsys.readouterr().err


def test_the_piece_list_may_name_another_piece_but_not_another_digest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny, path = one_file(tmp_path, encrypted=False)
    change_payload(path, 0)
    assert run(tiny, "1", tmp_path / "out", "--check", "full") == 0
    change_payload(path, 12)
    assert run(tiny, "1", tmp_path / "out") == 1
    assert "offset 8192: a piece is not what its digest says" in capsys.readouterr().err


def test_the_digits_of_a_file_name_mean_nothing(chain: TinyChain, tmp_path: Path) -> None:
    (chain.folder / "00000001-full.hfc").rename(chain.folder / "00000077-full.hfc")
    (chain.folder / "00000003-increment.hfc").rename(chain.folder / "00000000-increment.hfc")
    assert run(chain, "latest", tmp_path / "out") == 0
    assert_restored(tmp_path / "out", chain.disks)


def one_file(folder: Path, *, encrypted: bool) -> tuple[TinyChain, Path]:
    (folder / "chain").mkdir()
    (folder / "passphrase").write_text(PASSPHRASE)
    tiny = TinyChain(folder / "chain", encrypted, random.Random(9))
    return tiny, tiny.add([{0: random.Random(10).randbytes(PIECE)}, {}], kind=1)


def spoil(path: Path, offset: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(offset)
        value = stream.read(1)[0]
        stream.seek(offset)
        stream.write(bytes([value ^ 0x55]))
