"""A proof is read as it was written or not at all, and believed only from the key that is trusted."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from holdfast.errors import ConfigurationInvalid, FileDamaged, FormatTooNew, FormatUnknown, HoldfastError, ProofInvalid
from holdfast.formats import proof as module
from holdfast.formats.proof import (
    Proof,
    ProvedDisk,
    ProvedFile,
    ProvedMachineFile,
    ProvedPoint,
    ProvedReading,
    Statement,
    check_signature,
    decode_proof,
    encode_proof,
    fingerprint,
    load_private,
    load_public,
    private_pem,
    public_pem,
    signing_key,
)

KEY = signing_key(bytes(range(32)))
PUBLIC = KEY.public_key()
OTHER = signing_key(bytes(32)).public_key()
WHEN = datetime(2026, 11, 21, 20, tzinfo=UTC)
STATEMENT = Statement(
    made=WHEN,
    software="holdfast 0.1.0",
    chain="ab" * 16,
    cipher="aes-256-gcm",
    point=ProvedPoint(
        number=7,
        id="cd" * 16,
        session="nightly-1",
        machine="vm-7",
        machine_name='Bücher "7" \u20ac \U0001f5a5',
        created=WHEN,
        consistency="crash",
        parent_root="01" * 32,
        root="02" * 32,
        disks=(ProvedDisk(key="disk-0", size=(1 << 46), root="03" * 32),),
        files=(ProvedMachineFile(name="web.vmx", size=3, digest="04" * 16),),
    ),
    files=(
        ProvedFile(
            name="00000001-full.hfc",
            file="05" * 16,
            kind="full",
            generation=4,
            key_id="06" * 16,
            size=4096,
            sha256="07" * 32,
        ),
    ),
    reading=ProvedReading(result="good", units=5, stored_bytes=6, damages=0),
)
DATA = encode_proof(STATEMENT, KEY)
DEEP = b'{"deep":' + b"[" * 100_000 + b"]" * 100_000 + b',"proof":1}\n'


def test_a_proof_is_read_as_it_was_written() -> None:
    proof = decode_proof(DATA)
    assert proof.statement == STATEMENT
    assert proof.key == fingerprint(PUBLIC)
    check_signature(proof, PUBLIC)


def test_its_form_is_the_canonical_one_of_json() -> None:
    """RFC 8785, as the standard library writes it for what a proof has: strings, whole numbers, null and members."""
    document = json.loads(DATA)
    wild = "".join(map(chr, range(0x80))) + "\u00e9\u20ac\U0001f5a5\u2028"
    for statement in (STATEMENT, msgspec.structs.replace(STATEMENT, software=wild)):
        made = encode_proof(statement, KEY)
        document = json.loads(made)
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
        assert text.encode() == made
        assert decode_proof(made).statement == statement


def test_the_fingerprint_is_the_hash_of_the_raw_key() -> None:
    raw = PUBLIC.public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert fingerprint(PUBLIC) == hashlib.sha256(raw).hexdigest()


def is_believed(data: bytes, key: Ed25519PublicKey = PUBLIC) -> bool:
    try:
        check_signature(decode_proof(data), key)
    except HoldfastError:
        return False
    return True


def test_a_change_of_any_bit_shows() -> None:
    assert is_believed(DATA)
    for at in range(len(DATA)):
        for bit in range(8):
            changed = bytearray(DATA)
            changed[at] ^= 1 << bit
            assert not is_believed(bytes(changed)), (at, bit)


def test_a_proof_cut_anywhere_is_no_proof() -> None:
    assert [length for length in range(len(DATA)) if is_believed(DATA[:length])] == []


def test_another_key_is_not_believed() -> None:
    with pytest.raises(ProofInvalid, match="names key"):
        check_signature(decode_proof(DATA), OTHER)
    document = json.loads(DATA)
    document["key"] = fingerprint(OTHER)
    renamed = msgspec.json.encode(document, order="sorted") + b"\n"
    with pytest.raises(ProofInvalid, match="did not sign"):
        check_signature(decode_proof(renamed), OTHER)


def test_a_signature_of_something_else_is_not_believed() -> None:
    """The words before the statement keep other things that the key may sign apart."""
    signed = decode_proof(DATA).signed
    forged = Proof(key=fingerprint(PUBLIC), signature=KEY.sign(signed).hex(), signed=signed, statement=STATEMENT)
    with pytest.raises(ProofInvalid):
        check_signature(forged, PUBLIC)


def changed(**members: Any) -> bytes:
    """Return the proof with members of the statement replaced, signed again."""
    statement = json.loads(DATA)["statement"] | members
    signed = msgspec.json.encode(statement, order="sorted")
    envelope = {
        "key": fingerprint(PUBLIC),
        "proof": 1,
        "signature": KEY.sign(b"holdfast proof 1\n" + signed).hex(),
        "statement": msgspec.Raw(signed),
    }
    return msgspec.json.encode(envelope, order="sorted") + b"\n"


def test_members_of_a_later_version_are_signed_and_passed_over() -> None:
    proof = decode_proof(changed(later=[1, {"a": None}]))
    check_signature(proof, PUBLIC)
    assert proof.statement == STATEMENT


@pytest.mark.parametrize(
    "members",
    [
        {"chain": "AB" * 16},
        {"chain": None},
        {"made": "yesterday"},
        {"files": [{}]},
        {"point": {}},
        {"reading": {"result": "good", "units": -1, "stored_bytes": 0, "damages": 0}},
        {"reading": {"result": "good", "units": 1 << 53, "stored_bytes": 0, "damages": 0}},
    ],
)
def test_absurd_members_are_refused(members: dict[str, Any]) -> None:
    with pytest.raises(FileDamaged):
        decode_proof(changed(**members))


@pytest.mark.parametrize(
    "data",
    [
        DATA.rstrip(),
        DATA + b"\n",
        b" " + DATA,
        DATA.replace(b'"proof":1', b'"proof": 1'),
        DATA.replace(b'"proof":1', b'"proof":1,"proof":1'),
        DATA.replace(b'"cipher":"aes', b'"cipher":"\\u0061es'),
        DATA.replace(b'"proof":1', b'"proof":0'),
        DATA.replace(b'"key":"', b'"key":"\xff'),
        b'{"proof":1}\n',
    ],
)
def test_a_proof_has_one_form(data: bytes) -> None:
    with pytest.raises(FileDamaged):
        decode_proof(data)


@pytest.mark.parametrize("data", [b"", b"hello", b"{}", b"[1]", b'{"proof":"1"}', b"\xff\xfe", DEEP])
def test_what_is_no_proof_is_not_taken_for_one(data: bytes) -> None:
    with pytest.raises(FormatUnknown):
        decode_proof(data)


def test_a_proof_of_a_later_version_is_told_from_nonsense() -> None:
    with pytest.raises(FormatTooNew):
        decode_proof(b'{"proof":2,"something":"else"}')


def test_a_proof_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROOF_SIZE_MAX", len(DATA) - 1)
    with pytest.raises(FormatUnknown, match="more than any proof"):
        decode_proof(DATA)


def test_keys_are_kept_as_pem() -> None:
    assert private_pem(load_private(private_pem(KEY))) == private_pem(KEY)
    assert fingerprint(load_public(public_pem(PUBLIC))) == fingerprint(PUBLIC)


@pytest.mark.parametrize("pem", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key_is_refused(pem: bytes) -> None:
    with pytest.raises(ConfigurationInvalid, match="no private key"):
        load_private(pem)
    with pytest.raises(ConfigurationInvalid, match="no public key"):
        load_public(pem)


def test_keys_of_another_kind_are_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(ConfigurationInvalid, match="none of Ed25519"):
        load_private(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(ConfigurationInvalid, match="none of Ed25519"):
        load_public(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
