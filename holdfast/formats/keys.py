"""The key tree: passphrase, chain key, and the keys derived from it (docs/formats/chain-file.md section 5)."""

from functools import lru_cache

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from holdfast.errors import PassphraseWrong
from holdfast.formats.magic import Cipher

KEY_SIZE = 32
SALT_SIZE = 16
WRAP_NONCE_SIZE = 12
WRAPPED_KEY_SIZE = 48
_WRAP_LABEL = b"holdfast chain key"


class KeyEnvelope(msgspec.Struct, frozen=True, kw_only=True):
    """The chain key as it lies in a superblock: encrypted under the passphrase. All zeros without cipher."""

    cipher: Cipher
    salt: bytes = bytes(SALT_SIZE)
    memory_kib: int = 0
    iterations: int = 0
    lanes: int = 0
    wrap_nonce: bytes = bytes(WRAP_NONCE_SIZE)
    wrapped_key: bytes = bytes(WRAPPED_KEY_SIZE)


class PassphraseCost(msgspec.Struct, frozen=True, kw_only=True):
    """How dear one guess at the passphrase is. The default is the second recommendation of RFC 9106."""

    memory_kib: int = 64 << 10
    iterations: int = 3
    lanes: int = 4


PASSPHRASE_COST_MAX = PassphraseCost(memory_kib=4 << 20, iterations=64, lanes=64)
"""A file that asks for more than this is refused, so that a forged superblock cannot exhaust memory."""


class ChainKeys:
    """All keys of one chain. Cheap to keep; never leaves the process."""

    def __init__(self, chain_id: bytes, envelope: KeyEnvelope, chain_key: bytes) -> None:
        self.chain_id = chain_id
        self.envelope = envelope
        self.digest_key = _derive(chain_key, chain_id, b"holdfast digest")
        self.metadata_seal_key = _derive(chain_key, chain_id, b"holdfast metadata seal")
        self._chain_key = chain_key

    @property
    def cipher(self) -> Cipher:
        """Return how the chain's records are encrypted."""
        return self.envelope.cipher

    def seal_key(self, file_id: bytes) -> bytes:
        """Return the key that seals the superblocks of a file."""
        return _derive(self._chain_key, file_id, b"holdfast seal")

    def record_key(self, key_id: bytes) -> bytes:
        """Return the key of the records written under ``key_id``."""
        return _derive(self._chain_key, key_id, b"holdfast record")

    def metadata_key(self, key_id: bytes) -> bytes:
        """Return the key of one writing of the chain metadata file."""
        return _derive(self._chain_key, key_id, b"holdfast metadata")

    def rewrapped(self, passphrase: str, random: bytes, cost: PassphraseCost) -> "ChainKeys":
        """Return the same keys with an envelope for another passphrase; ``random`` is 28 fresh random bytes."""
        return ChainKeys(
            self.chain_id, _wrap(self.chain_id, self._chain_key, passphrase, random, cost), self._chain_key
        )


def plain_keys(chain_id: bytes) -> ChainKeys:
    """Return the public keys of a chain without encryption."""
    return ChainKeys(chain_id, KeyEnvelope(cipher=Cipher.NONE), chain_id * 2)


def new_encrypted_keys(chain_id: bytes, passphrase: str, random: bytes, cost: PassphraseCost) -> ChainKeys:
    """Return the keys of a new encrypted chain; ``random`` is 60 fresh random bytes (key, salt, nonce)."""
    chain_key = random[:KEY_SIZE]
    return ChainKeys(chain_id, _wrap(chain_id, chain_key, passphrase, random[KEY_SIZE:], cost), chain_key)


def open_keys(chain_id: bytes, envelope: KeyEnvelope, passphrase: str | None) -> ChainKeys:
    """Return the keys of an existing chain. Raises `PassphraseWrong`.

    A chain without encryption is not opened with a passphrase: whoever gives one expects that nobody without it can
    have written what is read.
    """
    if envelope.cipher is Cipher.NONE:
        if passphrase is not None:
            hint = "Open it without a passphrase if it was meant to be plain."
            raise PassphraseWrong(f"chain {chain_id.hex()} is not encrypted and a passphrase was given", hint=hint)
        return plain_keys(chain_id)
    if passphrase is None:
        raise PassphraseWrong(f"chain {chain_id.hex()} is encrypted and no passphrase was given")
    cost = cost_of(envelope)
    if not is_cost_acceptable(cost):
        hint = "The file is forged or damaged; use another copy."
        raise PassphraseWrong(f"chain {chain_id.hex()} states passphrase costs outside the limits", hint=hint)
    password_key = _password_key(passphrase, envelope.salt, cost)
    try:
        chain_key = AESGCM(password_key).decrypt(envelope.wrap_nonce, envelope.wrapped_key, _WRAP_LABEL + chain_id)
    except InvalidTag as error:
        raise PassphraseWrong(f"the passphrase does not open chain {chain_id.hex()}") from error
    return ChainKeys(chain_id, envelope, chain_key)


def cost_of(envelope: KeyEnvelope) -> PassphraseCost:
    """Return what one guess at the passphrase costs."""
    return PassphraseCost(memory_kib=envelope.memory_kib, iterations=envelope.iterations, lanes=envelope.lanes)


def is_cost_acceptable(cost: PassphraseCost) -> bool:
    """Return whether a file may ask for this cost before anything of it is authenticated."""
    limit = PASSPHRASE_COST_MAX
    lanes_ok = 1 <= cost.lanes <= limit.lanes
    memory_ok = 8 * cost.lanes <= cost.memory_kib <= limit.memory_kib
    return lanes_ok and memory_ok and 1 <= cost.iterations <= limit.iterations


def _wrap(chain_id: bytes, chain_key: bytes, passphrase: str, random: bytes, cost: PassphraseCost) -> KeyEnvelope:
    salt, nonce = random[:SALT_SIZE], random[SALT_SIZE : SALT_SIZE + WRAP_NONCE_SIZE]
    password_key = _password_key(passphrase, salt, cost)
    return KeyEnvelope(
        cipher=Cipher.AES_256_GCM,
        salt=salt,
        memory_kib=cost.memory_kib,
        iterations=cost.iterations,
        lanes=cost.lanes,
        wrap_nonce=nonce,
        wrapped_key=AESGCM(password_key).encrypt(nonce, chain_key, _WRAP_LABEL + chain_id),
    )


@lru_cache(maxsize=16)
def _password_key(passphrase: str, salt: bytes, cost: PassphraseCost) -> bytes:
    # Cached: all files of a chain share one envelope, and a derivation costs a fifth of a second by design.
    kdf = Argon2id(
        salt=salt, length=KEY_SIZE, iterations=cost.iterations, lanes=cost.lanes, memory_cost=cost.memory_kib
    )
    return kdf.derive(passphrase.encode())


@lru_cache(maxsize=1024)
def _derive(chain_key: bytes, salt: bytes, info: bytes) -> bytes:
    # Cached: every look at a chain derives the keys of all its files, and a session looks many times.
    return HKDF(algorithm=SHA256(), length=KEY_SIZE, salt=salt, info=info).derive(chain_key)
