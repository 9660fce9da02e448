"""A statement says what a point holds; a chain that holds something else contradicts it, a merged one does not."""

import hashlib
import random
from pathlib import Path

import msgspec
import pytest

from holdfast.clock import SystemClock
from holdfast.formats.magic import PIECE_SIZE
from holdfast.formats.proof import Statement
from holdfast.model.machine_files import MachineFile
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.methods.upkeep import ChainUpkeep
from holdfast.storage.tools.proving import DAMAGED, GOOD, ProofCheck, check_statement, files_of_point, make_statement
from tests.holdfast.storage.driving import back_up

CLOCK = SystemClock()
CONTENT = [random.Random(seed).randbytes(6 * PIECE_SIZE) for seed in range(3)]
FILES = (MachineFile(name="web.vmx", content=b"vmx"),)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path / "r", HostFiles(), "ab" * 16, CLOCK.now())


def three_points(repository: Repository, passphrase: str | None = None) -> str:
    points = [back_up(repository, content, number, passphrase, FILES) for number, content in enumerate(CONTENT, 1)]
    return points[0].chain


def stated(repository: Repository, chain: str, number: int, passphrase: str | None = None) -> Statement:
    with repository.open_chain(chain, passphrase) as opened:
        return make_statement(opened, number, lambda _: None, CLOCK.now(), "holdfast test")


def checked(repository: Repository, chain: str, statement: Statement, passphrase: str | None = None) -> ProofCheck:
    with repository.open_chain(chain, passphrase) as opened:
        return check_statement(opened, statement, lambda _: None)


@pytest.mark.parametrize("passphrase, cipher", [(None, "none"), ("open sesame", "aes-256-gcm")])
def test_a_statement_says_what_the_point_and_its_files_are(
    repository: Repository, passphrase: str | None, cipher: str
) -> None:
    chain = three_points(repository, passphrase)
    statement = stated(repository, chain, 2, passphrase)
    assert (statement.cipher, statement.point.number, statement.reading.result) == (cipher, 2, GOOD)
    assert [file.name for file in statement.files] == ["00000001-full.hfc", "00000002-increment.hfc"]
    for file in statement.files:
        data = (repository.chain_folder(chain) / file.name).read_bytes()
        assert (file.size, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert [(file.name, file.size) for file in statement.point.files] == [("web.vmx", 3)]
    with repository.open_chain(chain, passphrase) as opened:
        point = opened.point(2)[1]
    assert (statement.point.root, statement.point.disks[0].root) == (point.root, point.disks[0].root)
    found = checked(repository, chain, statement, passphrase)
    assert found.contradictions == ()
    assert found.files_changed == ()
    assert found.reading.is_good


def test_a_full_needs_itself_alone(repository: Repository) -> None:
    with repository.open_chain(three_points(repository), None) as chain:
        assert [file.path.name for file in files_of_point(chain, chain.point(1)[1])] == ["00000001-full.hfc"]
        # Every piece of the third point is in its own file, and yet it is not read without those before it.
        assert len(files_of_point(chain, chain.point(3)[1])) == 3


def test_damage_is_stated_and_contradicts(repository: Repository) -> None:
    chain = three_points(repository)
    good = stated(repository, chain, 1)
    path = repository.chain_folder(chain) / "00000001-full.hfc"
    data = bytearray(path.read_bytes())
    data[data.index(CONTENT[0][1000:1100])] ^= 1
    path.write_bytes(data)
    found = checked(repository, chain, good)
    assert len(found.contradictions) == 1
    assert "does not match its checksum" in found.contradictions[0]
    assert found.files_changed == ("00000001-full.hfc",)
    damaged = stated(repository, chain, 1)
    assert (damaged.reading.result, damaged.reading.damages) == (DAMAGED, 1)


def test_another_content_under_the_same_number_contradicts(repository: Repository) -> None:
    chain = three_points(repository)
    statement = stated(repository, chain, 2)
    forged = msgspec.structs.replace(statement, point=msgspec.structs.replace(statement.point, root="00" * 32))
    found = checked(repository, chain, forged)
    assert found.contradictions[0].startswith("root is ")


def test_another_chain_and_a_missing_point_contradict(repository: Repository, tmp_path: Path) -> None:
    chain = three_points(repository)
    statement = stated(repository, chain, 3)
    other = Repository.create(tmp_path / "other", HostFiles(), "cd" * 16, CLOCK.now())
    found = checked(other, three_points(other), statement)
    assert "the proof is of" in found.contradictions[0]
    folder = repository.chain_folder(chain)
    (folder / "00000003-increment.hfc").unlink()
    found = checked(repository, chain, statement)
    assert found.contradictions == ("the chain has no complete point 3",)
    assert found.files_changed == ("00000003-increment.hfc",)


def test_a_merge_changes_files_and_contradicts_nothing(repository: Repository) -> None:
    chain = three_points(repository)
    statement = stated(repository, chain, 3)
    folder = repository.chain_folder(chain)
    ChainUpkeep(repository.files, folder, None).merge("00000001-full.hfc", "00000002-increment.hfc")
    found = checked(repository, chain, statement)
    assert found.contradictions == ()
    assert found.files_changed == ("00000001-full.hfc", "00000002-increment.hfc")
    assert found.files_as_stated == ("00000003-increment.hfc",)
    with repository.open_chain(chain, None) as opened:
        assert [point.number for _, point in opened.points()] == [2, 3]
