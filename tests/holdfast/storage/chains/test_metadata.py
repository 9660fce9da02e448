"""The chain metadata says what the chain files say, and is a witness when one of them changes."""

from pathlib import Path

import msgspec
import pytest

from holdfast.errors import ChainBroken, FileDamaged
from holdfast.formats.chain_metadata import ChainMetadata
from holdfast.storage.chains.chain import Chain
from holdfast.storage.chains.metadata import (
    METADATA_NAME,
    check_against_metadata,
    check_chain,
    check_links,
    describe,
    read_metadata,
    refresh_metadata,
    write_metadata,
)
from holdfast.testing.chains import ProtectedMachine
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.conftest import make_machine


@pytest.fixture(params=[None, "correct horse"], ids=["plain", "encrypted"])
def machine(files: CrashFiles, request: pytest.FixtureRequest) -> ProtectedMachine:
    machine = make_machine({"disk0": 3}, files, request.param)
    machine.back_up()
    machine.back_up()
    return machine


@pytest.fixture
def folder(machine: ProtectedMachine) -> Path:
    return machine.repository.chain_folder(machine.kept[0].summary.chain)


def known(files: CrashFiles, folder: Path, passphrase: str | None) -> ChainMetadata:
    with Chain.open(files, folder, passphrase) as chain:
        metadata = read_metadata(files, folder, chain.files[0].keys)
    assert metadata is not None
    return metadata


def test_it_lists_files_and_points_as_they_are(files: CrashFiles, machine: ProtectedMachine, folder: Path) -> None:
    metadata = known(files, folder, machine.store.passphrase)
    assert [(f.name, f.holds, f.complete) for f in metadata.files] == [
        ("00000001-full.hfc", (1, 1), True),
        ("00000002-increment.hfc", (2, 2), True),
    ]
    assert [(p.number, p.root) for p in metadata.points] == [(k.summary.number, k.summary.root) for k in machine.kept]
    assert metadata.sequence == 2
    for listed in metadata.files:
        assert listed.size == len(files.content(folder / listed.name))


def test_rebuilt_from_the_files_it_says_the_same(files: CrashFiles, machine: ProtectedMachine, folder: Path) -> None:
    before = known(files, folder, machine.store.passphrase)
    files.drop(folder / METADATA_NAME)
    rebuilt = refresh_metadata(files, folder, machine.store.passphrase)
    assert msgspec.structs.replace(rebuilt, sequence=before.sequence) == before
    assert known(files, folder, machine.store.passphrase) == rebuilt


def test_every_writing_counts_and_uses_a_key_of_its_own(
    files: CrashFiles, machine: ProtectedMachine, folder: Path
) -> None:
    contents, sequences = set(), []
    for _ in range(4):
        sequences.append(refresh_metadata(files, folder, machine.store.passphrase).sequence)
        contents.add(files.content(folder / METADATA_NAME)[32:48])
    assert sequences == [3, 4, 5, 6]
    assert len(contents) == 4


def test_a_folder_without_chain_files_has_none(files: CrashFiles) -> None:
    files.make_folder(Path("/empty"))
    with pytest.raises(ChainBroken, match="no chain file"):
        refresh_metadata(files, Path("/empty"), None)


def test_no_metadata_is_no_error(files: CrashFiles, machine: ProtectedMachine, folder: Path) -> None:
    with Chain.open(files, folder, machine.store.passphrase) as chain:
        files.drop(folder / METADATA_NAME)
        assert read_metadata(files, folder, chain.files[0].keys) is None
        check_chain(files, chain)


def test_what_is_as_listed_passes_and_each_difference_is_named(
    files: CrashFiles, machine: ProtectedMachine, folder: Path
) -> None:
    with Chain.open(files, folder, machine.store.passphrase) as chain:
        metadata = describe(chain, 9)
        check_against_metadata(chain, metadata)
        one, two = metadata.files
        older = msgspec.structs.replace(one, generation=one.generation + 1)
        check_against_metadata(chain, msgspec.structs.replace(metadata, files=(older, two)))
        much_older = msgspec.structs.replace(one, generation=one.generation + 2)
        with pytest.raises(ChainBroken, match=r"00000001-full\.hfc .* was rolled back"):
            check_against_metadata(chain, msgspec.structs.replace(metadata, files=(much_older, two)))
        other = msgspec.structs.replace(two, file="0" * 32)
        with pytest.raises(ChainBroken, match=r"00000002-increment\.hfc .* is missing"):
            check_against_metadata(chain, msgspec.structs.replace(metadata, files=(one, other)))
        unfinished = msgspec.structs.replace(other, complete=False)
        check_against_metadata(chain, msgspec.structs.replace(metadata, files=(one, unfinished)))
        point = msgspec.structs.replace(metadata.points[1], root="0" * 64)
        with pytest.raises(ChainBroken, match=r"point 2 .* is missing or another one"):
            check_against_metadata(chain, msgspec.structs.replace(metadata, points=(metadata.points[0], point)))


def test_files_that_do_not_continue_each_other_are_named(
    files: CrashFiles, machine: ProtectedMachine, folder: Path
) -> None:
    with Chain.open(files, folder, machine.store.passphrase) as chain:
        check_links(chain)
        lost = Chain(folder, chain.files[1:])
        with pytest.raises(ChainBroken, match=r"00000002-increment\.hfc .* continues point 1, which is missing"):
            check_links(lost)


def test_a_chain_whose_metadata_is_damaged_is_judged_by_its_files(
    files: CrashFiles, machine: ProtectedMachine, folder: Path
) -> None:
    files.set_content(folder / METADATA_NAME, b"HFMETA01 and no more")
    with Chain.open(files, folder, machine.store.passphrase) as chain:
        with pytest.raises(FileDamaged, match="cut short"):
            read_metadata(files, folder, chain.files[0].keys)
        check_chain(files, chain)
        write_metadata(files, chain, 1)
    assert known(files, folder, machine.store.passphrase).sequence == 1
