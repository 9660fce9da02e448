"""Proofs: what a restore point held and that it was read back, signed (docs/formats/proof.md).

A proof is one line of JSON in the canonical form of RFC 8785, so every proof has one form and a change of any byte
shows. What is signed are the bytes of the statement as they stand in the file. Keys are Ed25519.
"""

from datetime import datetime
from typing import Annotated, Final, TypeAlias

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from holdfast.errors import ConfigurationInvalid, FileDamaged, FormatTooNew, FormatUnknown, ProofInvalid

PROOF_FORMAT: Final = 1
"""What this version writes, and the newest it reads."""
PROOF_SIZE_MAX: Final = 16 << 20
SEED_SIZE: Final = 32
_PREFIX: Final = b"holdfast proof 1\n"
"""Goes before the statement, so that no other signature of the key is good for one."""
_EXACT_MAX: Final = (1 << 53) - 1
"""RFC 8785 keeps numbers within what every reader of JSON has exactly."""

_Id: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
_Hash: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
_Signature: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{128}\Z")]
_Number: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=_EXACT_MAX)]


class ProvedDisk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk of the point."""

    key: str
    size: _Number
    root: _Hash


class ProvedMachineFile(msgspec.Struct, frozen=True, kw_only=True):
    """A machine file of the point."""

    name: str
    size: _Number
    digest: _Id


class ProvedPoint(msgspec.Struct, frozen=True, kw_only=True):
    """The restore point."""

    number: _Number
    id: _Id
    session: str
    machine: str
    machine_name: str
    created: datetime
    consistency: str
    parent_root: _Hash | None
    root: _Hash
    disks: tuple[ProvedDisk, ...]
    files: tuple[ProvedMachineFile, ...]


class ProvedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A chain file that the point needs, as it was when the statement was made."""

    name: str
    file: _Id
    kind: str
    generation: _Number
    key_id: _Id
    size: _Number
    sha256: _Hash


class ProvedReading(msgspec.Struct, frozen=True, kw_only=True):
    """What a reading of the point, every stored byte of it, found."""

    result: str
    """``good`` or ``damaged``."""
    units: _Number
    stored_bytes: _Number
    damages: _Number


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """What is signed."""

    made: datetime
    software: str
    chain: _Id
    cipher: str
    """``none`` or ``aes-256-gcm``."""
    point: ProvedPoint
    files: tuple[ProvedFile, ...]
    reading: ProvedReading


_STATEMENT_DECODER: Final = msgspec.json.Decoder(Statement)


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """A proof as it was read; its signature has not been looked at."""

    key: str
    """Fingerprint of the key that should have signed it."""
    signature: str
    signed: bytes
    statement: Statement


class _Envelope(msgspec.Struct, frozen=True, kw_only=True):
    key: _Hash
    proof: int
    signature: _Signature
    statement: msgspec.Raw


_ENVELOPE_DECODER: Final = msgspec.json.Decoder(_Envelope)


class _Version(msgspec.Struct, frozen=True):
    proof: int


_VERSION_DECODER: Final = msgspec.json.Decoder(_Version)


def encode_proof(statement: Statement, key: Ed25519PrivateKey) -> bytes:
    """Return the bytes of a proof."""
    signed = msgspec.json.encode(statement, order="sorted")
    envelope = {
        "key": fingerprint(key.public_key()),
        "proof": PROOF_FORMAT,
        "signature": key.sign(_PREFIX + signed).hex(),
        "statement": msgspec.Raw(signed),
    }
    return msgspec.json.encode(envelope, order="sorted") + b"\n"


def decode_proof(data: bytes) -> Proof:
    """Return the proof in ``data``. Raises `FormatUnknown`, `FormatTooNew` or `FileDamaged`."""
    if len(data) > PROOF_SIZE_MAX:
        raise FormatUnknown(f"{len(data)} bytes are more than any proof has")
    try:
        version = _VERSION_DECODER.decode(data).proof
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatUnknown(f"no proof: {error}") from error
    if version > PROOF_FORMAT:
        raise FormatTooNew(f"the proof has format {version}, this version knows {PROOF_FORMAT}")
    try:
        if version != PROOF_FORMAT or _canonical(data) != data:
            raise FileDamaged("the proof is not in the one form that a proof has")
        envelope = _ENVELOPE_DECODER.decode(data)
        signed = bytes(envelope.statement)
        statement = _STATEMENT_DECODER.decode(signed)
    except (msgspec.DecodeError, msgspec.EncodeError, UnicodeError, RecursionError) as error:
        raise FileDamaged(f"the proof cannot be read: {error}") from error
    return Proof(key=envelope.key, signature=envelope.signature, signed=signed, statement=statement)


def check_signature(proof: Proof, key: Ed25519PublicKey) -> None:
    """Raise `ProofInvalid` unless the holder of this key signed what the proof states."""
    known = fingerprint(key)
    if proof.key != known:
        raise ProofInvalid(
            f"the proof names key {proof.key} and not {known}",
            hint="Find out whose key it names; nobody you trust has signed it.",
        )
    try:
        key.verify(bytes.fromhex(proof.signature), _PREFIX + proof.signed)
    except InvalidSignature as error:
        raise ProofInvalid(f"key {known} did not sign what the proof states") from error


# -- keys --------------------------------------------------------------------------------------------------------------


def signing_key(seed: bytes) -> Ed25519PrivateKey:
    """Return the key that follows from 32 random bytes."""
    return Ed25519PrivateKey.from_private_bytes(seed)


def private_pem(key: Ed25519PrivateKey) -> bytes:
    """Return a private key as PEM, PKCS 8 without passphrase."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key: Ed25519PublicKey) -> bytes:
    """Return a public key as PEM."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def load_private(pem: bytes) -> Ed25519PrivateKey:
    """Return the private key in a PEM. Raises `ConfigurationInvalid`."""
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigurationInvalid(f"no private key: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationInvalid("the private key is none of Ed25519")
    return key


def load_public(pem: bytes) -> Ed25519PublicKey:
    """Return the public key in a PEM. Raises `ConfigurationInvalid`."""
    try:
        key = load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigurationInvalid(f"no public key: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigurationInvalid("the public key is none of Ed25519")
    return key


def fingerprint(key: Ed25519PublicKey) -> str:
    """Return the SHA-256 of a public key's 32 bytes, in hexadecimal digits."""
    digest = Hash(SHA256())
    digest.update(key.public_bytes(Encoding.Raw, PublicFormat.Raw))
    return digest.finalize().hex()


def _canonical(data: bytes) -> bytes:
    """Return what a document says in its canonical form, with a line end."""
    return msgspec.json.encode(msgspec.json.decode(data), order="sorted") + b"\n"
