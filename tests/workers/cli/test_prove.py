"""A point is proved on the command line, and the proof is checked by somebody who has nothing but the public key."""

import random
from pathlib import Path

import pytest

from holdfast.errors import (
    CredentialMissing,
    DataDamaged,
    FileDamaged,
    FormatUnknown,
    PassphraseWrong,
    ProofContradicted,
    ProofInvalid,
    RequestInvalid,
    TargetExists,
)
from tests.workers.cli.place import Place, call, one_document
from tests.workers.cli.stored import back_up

CONTENT = random.Random(3).randbytes(5 << 16)


class Proved:
    """A point with a proof and the key that made it."""

    def __init__(self, place: Place, *, encrypted: bool = False) -> None:
        self.place = place
        self.credential = ("--credential", "night") if encrypted else ()
        self.point = back_up(place, 1, CONTENT, encrypted=encrypted)
        self.key = Path(place.json("prove", "keygen")["public"])
        self.file = place.root / "proof [1].json"
        self.document = place.json("prove", "point", "latest", "--to", str(self.file), *self.credential)
        self.folder = place.repository.chain_folder(self.point.chain)

    def damage(self) -> None:
        path = self.folder / self.point.file
        data = bytearray(path.read_bytes())
        data[data.index(CONTENT[300:400])] ^= 1
        path.write_bytes(data)


@pytest.fixture
def proved(place: Place) -> Proved:
    return Proved(place)


def test_a_point_is_proved(proved: Proved) -> None:
    statement = proved.document["statement"]
    assert statement["point"]["id"] == proved.point.point_id
    assert statement["point"]["root"] == proved.point.root
    assert statement["reading"]["result"] == "good"
    assert proved.document["file"] == str(proved.file)
    assert proved.file.read_bytes().startswith(b'{"key":"')
    place = proved.place
    place.json("prove", "point", "latest", "--to", str(proved.file), status=TargetExists.exit_status)
    place.json("prove", "keygen", status=RequestInvalid.exit_status)
    assert "the proof is in" in place.run("prove", "point", "latest", "--to", str(place.root / "b")).stdout


def test_a_proof_has_a_name_by_default(proved: Proved, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    name = proved.place.json("prove", "point", "latest")["file"]
    assert name == f"proof-{proved.point.point_id[:12]}.json"
    assert (tmp_path / name).read_bytes()


def test_an_auditor_needs_the_public_key_alone(proved: Proved) -> None:
    words = ("prove", "check", str(proved.file), "--key", str(proved.key))
    document = one_document(call(*words, "--json"))
    assert document["signed"] is True
    assert document["statement"] == proved.document["statement"]
    document = one_document(call(*words, "--chain", str(proved.folder), "--json"))
    assert document["chain"]["contradictions"] == []
    assert document["chain"]["files_as_stated"] == [proved.point.file]
    shown = call(*words, "--chain", str(proved.folder)).stdout
    assert "signed by key" in shown
    assert "the chain holds what the proof says" in shown


def test_the_key_of_the_installation_is_the_default(proved: Proved) -> None:
    assert proved.place.json("prove", "check", str(proved.file))["signed"] is True
    proved.key.unlink()
    error = proved.place.json("prove", "check", str(proved.file), status=RequestInvalid.exit_status)["error"]
    assert "--key" in error["hint"]


def test_a_proof_that_was_touched_is_not_believed(proved: Proved) -> None:
    data = proved.file.read_bytes()
    proved.file.write_bytes(data.replace(b'"units":', b'"units":1'))
    document = proved.place.json("prove", "check", str(proved.file), status=ProofInvalid.exit_status)
    assert "did not sign" in document["error"]["message"]
    proved.file.write_bytes(data.replace(b",", b", ", 1))
    proved.place.json("prove", "check", str(proved.file), status=FileDamaged.exit_status)
    proved.file.write_bytes(b"hello")
    proved.place.json("prove", "check", str(proved.file), status=FormatUnknown.exit_status)
    proved.place.json("prove", "check", str(proved.folder), status=RequestInvalid.exit_status)


def test_a_chain_that_was_damaged_since_contradicts(proved: Proved) -> None:
    proved.damage()
    words = ("prove", "check", str(proved.file), "--chain", proved.point.chain)
    document = proved.place.json(*words, status=ProofContradicted.exit_status)
    assert document["chain"]["files_changed"] == [proved.point.file]
    result = proved.place.run(*words)
    assert "problem: disk disk0" in result.stdout
    assert "files changed since, or gone: " in result.stdout
    assert "error (proof-contradicted)" in result.stderr


def test_a_damaged_point_gets_a_proof_that_says_so(proved: Proved) -> None:
    proved.damage()
    target = proved.place.root / "damaged.json"
    document = proved.place.json("prove", "point", "latest", "--to", str(target), status=DataDamaged.exit_status)
    assert document["statement"]["reading"]["result"] == "damaged"
    checked = proved.place.json("prove", "check", str(target))
    assert checked["statement"]["reading"]["damages"] == 1
    result = proved.place.run("prove", "point", "latest", "--to", str(proved.place.root / "again"))
    assert "damaged: " in result.stdout


def test_an_encrypted_point_is_proved_and_checked_with_its_credential(place: Place) -> None:
    proved = Proved(place, encrypted=True)
    assert proved.document["statement"]["cipher"] == "aes-256-gcm"
    words = ("prove", "check", str(proved.file), "--chain", proved.point.chain)
    assert place.json(*words, "--credential", "night")["chain"]["contradictions"] == []
    place.json(*words, status=PassphraseWrong.exit_status)
    assert place.json("prove", "check", str(proved.file))["signed"] is True


def test_without_a_key_nothing_is_signed(place: Place) -> None:
    back_up(place, 1, CONTENT)
    error = place.json("prove", "point", "latest", status=CredentialMissing.exit_status)["error"]
    assert "prove keygen" in error["hint"]
