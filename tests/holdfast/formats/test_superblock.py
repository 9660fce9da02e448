"""The superblock: what is packed comes back, and nothing damaged or forged counts."""

import random
import struct
import zlib

import msgspec
import pytest
from blake3 import blake3

from holdfast.errors import FileDamaged, FormatTooNew, FormatUnknown
from holdfast.formats.keys import ChainKeys, KeyEnvelope, PassphraseCost, new_encrypted_keys, plain_keys
from holdfast.formats.magic import SUPERBLOCK_SIZE, UNIT_SIZES, Cipher, FileKind, FileState
from holdfast.formats.pages import Ref
from holdfast.formats.superblock import Superblock, is_sealed, pack_superblock, unpack_superblock

CHAIN_ID, FILE_ID = bytes(range(16)), bytes(range(50, 66))
CHEAP = PassphraseCost(memory_kib=64, iterations=1, lanes=1)
KEYS = {
    Cipher.NONE: plain_keys(CHAIN_ID),
    Cipher.AES_256_GCM: new_encrypted_keys(CHAIN_ID, "open sesame", bytes(range(60)), CHEAP),
}
BOTH_CIPHERS = pytest.mark.parametrize("cipher", list(Cipher))


def superblock(keys: ChainKeys) -> Superblock:
    return Superblock(
        kind=FileKind.INCREMENT,
        unit_size=1 << 20,
        state=FileState.OPEN,
        generation=7,
        end=123 << 12,
        chain_id=keys.chain_id,
        file_id=FILE_ID,
        key_id=bytes(range(100, 116)),
        root=Ref(offset=99 << 12, length=777, digest=bytes(range(200, 216))),
        envelope=keys.envelope,
    )


def packed(cipher: Cipher) -> bytearray:
    return bytearray(pack_superblock(superblock(KEYS[cipher]), KEYS[cipher]))


def with_right_crc(data: bytearray) -> bytes:
    data[4060:4064] = zlib.crc32(data[:4060]).to_bytes(4, "little")
    return bytes(data)


def forged(cipher: Cipher, offset: int, code: str, value: int) -> bytes:
    """Return a superblock with one field changed, its checksum right and its seal as it was."""
    data = packed(cipher)
    struct.pack_into("<" + code, data, offset, value)
    return with_right_crc(data)


@BOTH_CIPHERS
def test_a_superblock_comes_back(cipher: Cipher) -> None:
    data = bytes(packed(cipher))
    assert len(data) == SUPERBLOCK_SIZE
    assert unpack_superblock(data) == superblock(KEYS[cipher])
    assert is_sealed(data, FILE_ID, KEYS[cipher])


def test_every_superblock_comes_back(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(200):
        block = Superblock(
            kind=rng.choice(list(FileKind)),
            unit_size=rng.choice(UNIT_SIZES),
            state=rng.choice(list(FileState)),
            generation=rng.randrange(1, 1 << 64),
            end=rng.randrange(2, 1 << 52) << 12,
            chain_id=rng.randbytes(16),
            file_id=rng.randbytes(16),
            key_id=rng.randbytes(16),
            root=Ref(rng.randrange(1 << 64), rng.randrange(1 << 32), rng.randbytes(16)),
            envelope=KeyEnvelope(
                cipher=Cipher.AES_256_GCM,
                salt=rng.randbytes(16),
                memory_kib=rng.randrange(8 * 64, (4 << 20) + 1),
                iterations=rng.randrange(1, 65),
                lanes=rng.randrange(1, 65),
                wrap_nonce=rng.randbytes(12),
                wrapped_key=rng.randbytes(48),
            ),
        )
        data = pack_superblock(block, KEYS[Cipher.NONE])
        assert unpack_superblock(data) == block
        assert is_sealed(data, block.file_id, KEYS[Cipher.NONE])


@BOTH_CIPHERS
def test_every_flipped_byte_is_noticed(cipher: Cipher) -> None:
    data = packed(cipher)
    for at in range(SUPERBLOCK_SIZE):
        data[at] ^= 0x41
        assert not counts(bytes(data), cipher), at
        data[at] ^= 0x41


@BOTH_CIPHERS
def test_every_forged_byte_is_noticed_by_the_seal(cipher: Cipher) -> None:
    for at in range(4060):
        data = packed(cipher)
        data[at] ^= 0x41
        assert not counts(with_right_crc(data), cipher), at


def counts(data: bytes, cipher: Cipher) -> bool:
    """Return whether a reader would believe a superblock."""
    try:
        block = unpack_superblock(data)
    except (FileDamaged, FormatTooNew, FormatUnknown):
        return False
    return is_sealed(data, block.file_id, KEYS[cipher])


def test_the_seal_is_keyed_by_chain_and_file() -> None:
    data = bytes(packed(Cipher.AES_256_GCM))
    key = KEYS[Cipher.AES_256_GCM].seal_key(FILE_ID)
    assert data[4064:] == blake3(data[:4064], key=key).digest()
    assert not is_sealed(data, CHAIN_ID, KEYS[Cipher.AES_256_GCM])
    assert not is_sealed(data, FILE_ID, plain_keys(CHAIN_ID))


@pytest.mark.parametrize(
    "offset, code, value",
    [
        (12, "B", 0),
        (12, "B", 4),
        (13, "B", 2),
        (14, "B", 0),
        (14, "B", 17),
        (14, "B", 21),
        (14, "B", 23),
        (14, "B", 255),
        (15, "B", 0),
        (15, "B", 3),
        (16, "Q", 0),
        (24, "Q", 0),
        (24, "Q", 4096),
        (24, "Q", (9 << 12) + 1),
        (128, "I", 0),
        (128, "I", (4 << 20) + 1),
        (128, "I", 0xFFFFFFFF),
        (132, "I", 0),
        (132, "I", 65),
        (136, "I", 0),
        (136, "I", 65),
    ],
)
def test_an_impossible_value_is_refused(offset: int, code: str, value: int) -> None:
    with pytest.raises(FileDamaged, match=r"^superblock states an impossible value: "):
        unpack_superblock(forged(Cipher.AES_256_GCM, offset, code, value))


@pytest.mark.parametrize(
    "offset, code, value",
    [(12, "B", 1), (12, "B", 3), (14, "B", 18), (14, "B", 19), (14, "B", 22), (15, "B", 2), (24, "Q", 8192)],
)
def test_every_documented_value_is_read(offset: int, code: str, value: int) -> None:
    data = forged(Cipher.AES_256_GCM, offset, code, value)
    assert unpack_superblock(data) != superblock(KEYS[Cipher.AES_256_GCM])


def test_costs_are_looked_at_only_with_a_cipher() -> None:
    assert unpack_superblock(forged(Cipher.NONE, 128, "I", 0xFFFFFFFF)).envelope.memory_kib == 0xFFFFFFFF


@pytest.mark.parametrize("reader_min", [2, 0xFFFF])
def test_a_file_for_newer_readers_is_refused_as_such(reader_min: int) -> None:
    with pytest.raises(FormatTooNew, match=f"^file needs a reader of format version {reader_min}, this one knows 1$"):
        unpack_superblock(forged(Cipher.NONE, 10, "H", reader_min))


def test_a_newer_file_is_named_so_even_if_its_values_mean_nothing_here() -> None:
    data = packed(Cipher.NONE)
    data[10], data[12] = 2, 99
    with pytest.raises(FormatTooNew):
        unpack_superblock(with_right_crc(data))


def test_a_newer_writer_that_older_readers_may_read_is_read() -> None:
    data = packed(Cipher.NONE)
    data[8] = 9
    data[200:4060] = b"\x55" * 3860
    assert unpack_superblock(with_right_crc(data)) == superblock(KEYS[Cipher.NONE])


@pytest.mark.parametrize(
    "data",
    [b"", b"HFCHAIN1", bytes(4096), b"HFCHAIN1" + bytes(4087), b"HFCHAIN1" + bytes(4089), b"HFCHAIN2" + bytes(4088)],
    ids=["empty", "magic", "zeros", "short", "long", "other"],
)
def test_what_is_no_superblock_is_unknown(data: bytes) -> None:
    with pytest.raises(FormatUnknown, match=r"the magic number is missing$"):
        unpack_superblock(data)


def test_a_superblock_with_a_wrong_checksum_is_damaged() -> None:
    data = packed(Cipher.NONE)
    data[4060] ^= 1
    with pytest.raises(FileDamaged, match=r"^superblock checksum does not match$"):
        unpack_superblock(bytes(data))


@pytest.mark.parametrize("generation, offset", [(1, 4096), (2, 0), (3, 4096), ((1 << 64) - 1, 4096)])
def test_generations_take_turns_in_the_two_slots(generation: int, offset: int) -> None:
    block = msgspec.structs.replace(superblock(KEYS[Cipher.NONE]), generation=generation)
    assert block.slot_offset == offset
