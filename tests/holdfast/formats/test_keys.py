"""The key tree: every derivation computed again with the standard library, and passphrases that open or do not."""

import hashlib
import hmac
from itertools import combinations

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from holdfast.errors import PassphraseWrong
from holdfast.formats import keys
from holdfast.formats.keys import (
    PASSPHRASE_COST_MAX,
    ChainKeys,
    KeyEnvelope,
    PassphraseCost,
    cost_of,
    is_cost_acceptable,
    new_encrypted_keys,
    open_keys,
    plain_keys,
)
from holdfast.formats.magic import Cipher

CHEAP = PassphraseCost(memory_kib=64, iterations=1, lanes=1)
CHAIN_ID = bytes(range(16))
RANDOM = bytes(range(100, 160))
OTHER_RANDOM = bytes(range(28))


def hkdf_sha256(key: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 for one block of output."""
    extracted = hmac.new(salt, key, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def encrypted() -> ChainKeys:
    return new_encrypted_keys(CHAIN_ID, "open sesame", RANDOM, CHEAP)


def all_keys(chain: ChainKeys) -> dict[str, bytes]:
    some_id = b"\7" * 16
    return {
        "digest": chain.digest_key,
        "seal": chain.seal_key(some_id),
        "record": chain.record_key(some_id),
        "metadata seal": chain.metadata_seal_key,
        "metadata": chain.metadata_key(some_id),
    }


def test_the_derivation_of_this_test_is_the_published_one() -> None:
    # RFC 5869, test case 1, first 32 bytes.
    found = hkdf_sha256(b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)))
    assert found.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"


@pytest.mark.parametrize(
    "chain, chain_key", [(plain_keys(CHAIN_ID), CHAIN_ID * 2), (encrypted(), RANDOM[:32])], ids=["plain", "encrypted"]
)
def test_every_key_is_derived_from_the_chain_key_as_documented(chain: ChainKeys, chain_key: bytes) -> None:
    some_id = b"\7" * 16
    assert all_keys(chain) == {
        "digest": hkdf_sha256(chain_key, CHAIN_ID, b"holdfast digest"),
        "seal": hkdf_sha256(chain_key, some_id, b"holdfast seal"),
        "record": hkdf_sha256(chain_key, some_id, b"holdfast record"),
        "metadata seal": hkdf_sha256(chain_key, CHAIN_ID, b"holdfast metadata seal"),
        "metadata": hkdf_sha256(chain_key, some_id, b"holdfast metadata"),
    }


def test_the_derivations_have_not_moved() -> None:
    digests = {name: key.hex()[:16] for name, key in all_keys(plain_keys(CHAIN_ID)).items()}
    assert digests == {
        "digest": "6fc7ffe8920721fa",
        "seal": "3dcd6da5941f194d",
        "record": "e9e85ab91561ff42",
        "metadata seal": "d324c78e19995e1c",
        "metadata": "bf3ca2647cc4bf30",
    }


def test_no_two_keys_of_a_chain_are_equal() -> None:
    values = list(all_keys(encrypted()).values())
    values += [encrypted().seal_key(CHAIN_ID), encrypted().record_key(CHAIN_ID), encrypted().metadata_key(CHAIN_ID)]
    assert all(left != right for left, right in combinations(values, 2))


def test_the_password_key_is_argon2id_version_13() -> None:
    # From the tests of the reference implementation: 2 passes, 256 KiB, 1 lane.
    cost = PassphraseCost(memory_kib=256, iterations=2, lanes=1)
    found = keys._password_key("password", b"somesalt", cost)
    assert found.hex() == "9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe"


def test_the_chain_key_is_wrapped_as_documented() -> None:
    envelope = encrypted().envelope
    assert (envelope.salt, envelope.wrap_nonce) == (RANDOM[32:48], RANDOM[48:60])
    password_key = keys._password_key("open sesame", envelope.salt, CHEAP)
    label = b"holdfast chain key" + CHAIN_ID
    assert AESGCM(password_key).decrypt(envelope.wrap_nonce, envelope.wrapped_key, label) == RANDOM[:32]


def test_the_right_passphrase_opens_the_chain() -> None:
    opened = open_keys(CHAIN_ID, encrypted().envelope, "open sesame")
    assert all_keys(opened) == all_keys(encrypted())
    assert opened.cipher is Cipher.AES_256_GCM


@pytest.mark.parametrize("passphrase", ["", "open sesam", "open sesame ", "Open sesame", "ópen sesame"])
def test_any_other_passphrase_does_not(passphrase: str) -> None:
    with pytest.raises(PassphraseWrong, match=f"does not open chain {CHAIN_ID.hex()}$"):
        open_keys(CHAIN_ID, encrypted().envelope, passphrase)


def test_no_passphrase_does_not() -> None:
    with pytest.raises(PassphraseWrong, match=r"is encrypted and no passphrase was given$"):
        open_keys(CHAIN_ID, encrypted().envelope, None)


def test_passphrases_are_not_normalised() -> None:
    composed = new_encrypted_keys(CHAIN_ID, "\u00e9", RANDOM, CHEAP)
    with pytest.raises(PassphraseWrong):
        open_keys(CHAIN_ID, composed.envelope, "e\u0301")


def test_an_envelope_of_another_chain_does_not_open() -> None:
    with pytest.raises(PassphraseWrong):
        open_keys(bytes(16), encrypted().envelope, "open sesame")


@pytest.mark.parametrize("field", ["salt", "wrap_nonce", "wrapped_key"])
def test_a_changed_envelope_does_not_open(field: str) -> None:
    envelope = encrypted().envelope
    value = bytearray(getattr(envelope, field))
    for at in range(len(value)):
        value[at] ^= 0x10
        with pytest.raises(PassphraseWrong):
            open_keys(CHAIN_ID, msgspec.structs.replace(envelope, **{field: bytes(value)}), "open sesame")
        value[at] ^= 0x10


@pytest.mark.parametrize("change", [{"memory_kib": 65}, {"iterations": 2}, {"memory_kib": 16, "lanes": 2}])
def test_another_cost_does_not_open(change: dict[str, int]) -> None:
    with pytest.raises(PassphraseWrong):
        open_keys(CHAIN_ID, msgspec.structs.replace(encrypted().envelope, **change), "open sesame")


def test_a_plain_chain_needs_no_passphrase_and_refuses_one() -> None:
    envelope = plain_keys(CHAIN_ID).envelope
    assert all_keys(open_keys(CHAIN_ID, envelope, None)) == all_keys(plain_keys(CHAIN_ID))
    with pytest.raises(PassphraseWrong, match=r"is not encrypted and a passphrase was given$"):
        open_keys(CHAIN_ID, envelope, "open sesame")


def test_the_envelope_of_a_plain_chain_is_zeros() -> None:
    envelope = plain_keys(CHAIN_ID).envelope
    assert envelope == KeyEnvelope(
        cipher=Cipher.NONE,
        salt=bytes(16),
        memory_kib=0,
        iterations=0,
        lanes=0,
        wrap_nonce=bytes(12),
        wrapped_key=bytes(48),
    )


def test_another_passphrase_leads_to_the_same_keys() -> None:
    cost = PassphraseCost(memory_kib=128, iterations=2, lanes=2)
    moved = encrypted().rewrapped("new words", OTHER_RANDOM, cost)
    opened = open_keys(CHAIN_ID, moved.envelope, "new words")
    assert all_keys(opened) == all_keys(moved) == all_keys(encrypted())
    assert cost_of(moved.envelope) == cost
    assert (moved.envelope.salt, moved.envelope.wrap_nonce) == (OTHER_RANDOM[:16], OTHER_RANDOM[16:])
    with pytest.raises(PassphraseWrong):
        open_keys(CHAIN_ID, moved.envelope, "open sesame")


def test_chains_with_other_ids_or_chain_keys_share_no_key() -> None:
    chains = [
        encrypted(),
        new_encrypted_keys(CHAIN_ID, "open sesame", b"\5" * 60, CHEAP),
        plain_keys(CHAIN_ID),
        plain_keys(bytes(16)),
    ]
    for left, right in combinations(chains, 2):
        assert not set(all_keys(left).values()) & set(all_keys(right).values())


LIMIT = PASSPHRASE_COST_MAX


@pytest.mark.parametrize(
    "cost, is_acceptable",
    [
        (PassphraseCost(), True),
        (CHEAP, True),
        (LIMIT, True),
        (PassphraseCost(memory_kib=8, iterations=1, lanes=1), True),
        (PassphraseCost(memory_kib=7, iterations=1, lanes=1), False),
        (PassphraseCost(memory_kib=64 * 8 - 1, iterations=1, lanes=64), False),
        (PassphraseCost(memory_kib=LIMIT.memory_kib + 1, iterations=1, lanes=1), False),
        (PassphraseCost(memory_kib=64, iterations=0, lanes=1), False),
        (PassphraseCost(memory_kib=64, iterations=LIMIT.iterations + 1, lanes=1), False),
        (PassphraseCost(memory_kib=64, iterations=1, lanes=0), False),
        (PassphraseCost(memory_kib=1 << 20, iterations=1, lanes=LIMIT.lanes + 1), False),
        (PassphraseCost(memory_kib=0, iterations=0, lanes=0), False),
        (PassphraseCost(memory_kib=0xFFFFFFFF, iterations=0xFFFFFFFF, lanes=0xFFFFFFFF), False),
    ],
)
def test_costs_have_bounds(cost: PassphraseCost, is_acceptable: bool) -> None:
    assert is_cost_acceptable(cost) is is_acceptable
    envelope = msgspec.structs.replace(
        encrypted().envelope, memory_kib=cost.memory_kib, iterations=cost.iterations, lanes=cost.lanes
    )
    if not is_acceptable:
        with pytest.raises(PassphraseWrong, match=r"states passphrase costs outside the limits$"):
            open_keys(CHAIN_ID, envelope, "open sesame")


def test_the_limits_of_the_page_are_the_limits() -> None:
    assert PassphraseCost(memory_kib=4 << 20, iterations=64, lanes=64) == LIMIT


def test_keys_are_drawn_from_the_given_bytes_alone() -> None:
    assert encrypted().envelope == encrypted().envelope
    assert encrypted().envelope != new_encrypted_keys(CHAIN_ID, "open sesame", RANDOM[::-1], CHEAP).envelope
