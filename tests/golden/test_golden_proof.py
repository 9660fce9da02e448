"""A proof that an earlier version made is believed, its chain holds it, and its statement makes the same bytes."""

import hashlib
from pathlib import Path

import msgspec

from holdfast.formats.proof import check_signature, decode_proof, encode_proof, load_public, signing_key
from holdfast.storage.chains.chain import Chain
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.tools.proving import GOOD, check_statement, make_statement

FOLDER = Path(__file__).parent
PROOF = FOLDER / "proof" / "v1.json"
PUBLIC = FOLDER / "proof" / "v1.pub"
CHAIN = FOLDER / "v1" / "plain-zstd"
DIGEST = "b04b08537ee91e0f4e5e5c0f8c20705fa22b86470d9e830bdd3d03d171bf59b1"
SEED = bytes(range(32))
"""Of the key that signed it; anybody knows it, so nobody may trust it."""


def test_the_files_are_those_that_were_kept() -> None:
    assert hashlib.sha256(PROOF.read_bytes() + PUBLIC.read_bytes()).hexdigest() == DIGEST


def test_the_proof_is_believed() -> None:
    proof = decode_proof(PROOF.read_bytes())
    check_signature(proof, load_public(PUBLIC.read_bytes()))
    assert proof.statement.reading.result == GOOD


def test_the_same_statement_makes_the_same_bytes() -> None:
    statement = decode_proof(PROOF.read_bytes()).statement
    assert encode_proof(statement, signing_key(SEED)) == PROOF.read_bytes()


def test_the_chain_holds_what_the_proof_says_and_makes_the_same_statement() -> None:
    statement = decode_proof(PROOF.read_bytes()).statement
    with Chain.open(HostFiles(), CHAIN) as chain:
        found = check_statement(chain, statement, lambda _: None)
        again = make_statement(chain, statement.point.number, lambda _: None, statement.made, statement.software)
    assert found.contradictions == ()
    assert found.files_changed == ()
    assert found.files_as_stated == tuple(file.name for file in statement.files)
    assert msgspec.json.encode(again, order="sorted") == msgspec.json.encode(statement, order="sorted")
