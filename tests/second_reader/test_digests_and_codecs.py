"""The digests and decoders of the second reader against vectors and other implementations."""

from __future__ import annotations

import random

import blake3 as reference
import lz4.block
import pytest

from tests.second_reader import reader

VECTOR_KEY = b"whats the Elvish word for friend"
# First 32 bytes of `keyed_hash` in the official test vectors of BLAKE3, by length of the input.
VECTORS = {
    0: "92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26",
    1: "6d7878dfff2f485635d39013278ae14f1454b8c0a3a2d34bc1ab38228a80c95b",
    1023: "c951ecdf03288d0fcc96ee3413563d8a6d3589547f2c2fb36d9786470f1b9d6e",
    1024: "75c46f6f3d9eb4f55ecaaee480db732e6c2105546f1e675003687c31719c7ba4",
    1025: "357dc55de0c7e382c900fd6e320acc04146be01db6a8ce7210b7189bd664ea69",
    2048: "879cf1fa2ea0e79126cb1063617a05b6ad9d0b696d0d757cf053439f60a99dd1",
    2049: "9f29700902f7c86e514ddc4df1e3049f258b2472b6dd5267f61bf13983b78dd5",
    3072: "044a0e7b172a312dc02a4c9a818c036ffa2776368d7f528268d2e6b5df191770",
}


def pattern(length: int) -> bytes:
    return bytes(i % 251 for i in range(length))


@pytest.mark.parametrize("length", VECTORS)
def test_blake3_gives_the_official_keyed_vectors(length: int) -> None:
    assert reader.blake3(VECTOR_KEY, pattern(length)).hex() == VECTORS[length]


@pytest.mark.parametrize("length", [2, 63, 64, 65, 128, 1087, 3073, 4096, 5121, 8193, 31744, 65541])
def test_blake3_agrees_with_the_package(length: int) -> None:
    data = pattern(length)
    assert reader.blake3(VECTOR_KEY, data) == reference.blake3(data, key=VECTOR_KEY).digest()


@pytest.mark.parametrize("each, count", [(1024, 3), (16384, 5), (65536, 7)])
def test_many_messages_at_once_have_the_digests_of_each(each: int, count: int) -> None:
    data = random.Random(each).randbytes(each * count)
    parts = [data[k * each :][:each] for k in range(count)]
    expected = [reference.blake3(part, key=VECTOR_KEY).digest() for part in parts]
    assert reader.blake3_each(VECTOR_KEY, data, count) == expected


@pytest.mark.parametrize("mode", ["fast", "default", "high_compression"])
def test_lz4_decoder_undoes_the_package(mode: str) -> None:
    rng = random.Random(7)
    noise = rng.randbytes(3000)
    runs = b"".join(bytes([rng.randrange(4)]) * rng.randrange(1, 900) for _ in range(200))
    for data in (b"", b"a", bytes(70000), noise, noise + noise[:99] * 40, runs, b"ab" * 999):
        packed = lz4.block.compress(data, mode=mode, store_size=False)
        assert reader.lz4_block(packed, len(data)) == data


@pytest.mark.parametrize(
    "block",
    [b"", b"\x30ab", b"\x10a\x00\x00\x00", b"\x10a\x02\x00\x00", b"\x10a\x01", b"\xf0\xff"],
    ids=["empty", "short literals", "distance 0", "before the start", "cut offset", "cut length"],
)
def test_lz4_decoder_refuses_broken_blocks(block: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        reader.lz4_block(block, 100)


def test_lz4_decoder_refuses_more_than_announced() -> None:
    with pytest.raises(ValueError, match="instead of 10"):
        reader.lz4_block(lz4.block.compress(bytes(4000), store_size=False), 10)
