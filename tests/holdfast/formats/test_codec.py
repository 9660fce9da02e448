"""Bodies come back as they were, and no frame makes a reader believe or allocate what it states."""

import random
import tracemalloc

import lz4.block
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import DataDamaged
from holdfast.formats.codec import compress, decompress
from holdfast.formats.magic import CONTENTS_SIZE_MAX, Codec
from holdfast.model.compression import Compression

TEXT = b"the same words again and again; " * 2048
CODECS = {
    Compression.NONE: Codec.NONE,
    Compression.LZ4: Codec.LZ4,
    Compression.ZSTD_1: Codec.ZSTD,
    Compression.ZSTD_3: Codec.ZSTD,
    Compression.ZSTD_9: Codec.ZSTD,
}


def packed_by(level: Compression, body: bytes) -> tuple[Codec, bytes]:
    codec, packed = compress(body, level)
    return codec, bytes(packed)


@pytest.mark.parametrize("level", list(Compression))
def test_what_can_be_made_smaller_is(level: Compression) -> None:
    codec, packed = packed_by(level, TEXT)
    assert codec is CODECS[level]
    assert (len(packed) < len(TEXT) // 50) == (level is not Compression.NONE)
    assert bytes(decompress(codec, packed, len(TEXT))) == TEXT


@pytest.mark.parametrize("level", list(Compression))
def test_what_cannot_be_made_smaller_is_kept_as_it_is(level: Compression) -> None:
    noise = random.Random(1).randbytes(65536)
    assert compress(noise, level) == (Codec.NONE, noise)


@given(st.binary(max_size=600), st.integers(1, 9), st.sampled_from(list(Compression)))
def test_every_body_comes_back(part: bytes, times: int, level: Compression) -> None:
    body = part * times
    codec, packed = packed_by(level, body)
    assert len(packed) <= len(body)
    assert decompress(codec, packed, len(body)) == body


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_every_kind_of_buffer_can_be_compressed(make: type[bytes | bytearray | memoryview]) -> None:
    for level in Compression:
        codec, packed = compress(make(TEXT), level)
        assert bytes(decompress(codec, memoryview(packed), len(TEXT))) == TEXT


@pytest.mark.parametrize("raw", [0, len(TEXT) - 1, len(TEXT) + 1, CONTENTS_SIZE_MAX])
@pytest.mark.parametrize("level", [Compression.NONE, Compression.LZ4, Compression.ZSTD_1])
def test_a_body_of_another_size_is_refused(level: Compression, raw: int) -> None:
    codec, packed = packed_by(level, TEXT)
    with pytest.raises(DataDamaged):
        decompress(codec, packed, raw)


@pytest.mark.parametrize("codec", list(Codec))
def test_a_body_above_the_limit_is_refused_before_it_is_decoded(codec: Codec) -> None:
    with pytest.raises(DataDamaged, match=f"^body of {CONTENTS_SIZE_MAX + 1} bytes is above the limit$"):
        decompress(codec, b"", CONTENTS_SIZE_MAX + 1)


@pytest.mark.parametrize("level", [Compression.LZ4, Compression.ZSTD_1])
def test_a_frame_cut_short_is_refused_at_every_length(level: Compression) -> None:
    codec, packed = packed_by(level, TEXT)
    for length in range(len(packed)):
        with pytest.raises(DataDamaged):
            decompress(codec, packed[:length], len(TEXT))


@pytest.mark.parametrize("level", [Compression.LZ4, Compression.ZSTD_1])
def test_bytes_behind_the_frame_are_refused(level: Compression) -> None:
    codec, packed = packed_by(level, TEXT)
    with pytest.raises(DataDamaged):
        decompress(codec, bytes(packed) + b"\0", len(TEXT))


@pytest.mark.parametrize("codec", [Codec.LZ4, Codec.ZSTD])
def test_noise_is_refused(codec: Codec) -> None:
    rng = random.Random(2)
    for _ in range(200):
        with pytest.raises(DataDamaged):
            decompress(codec, rng.randbytes(rng.randrange(100)), 65536)


def frame(*, stated: int | None, body: bytes) -> bytes:
    """Return a Zstandard frame of one raw block with an 8-byte content size, or with none and a window of 1 KiB."""
    head = b"\x28\xb5\x2f\xfd" + (b"\0\0" if stated is None else b"\xe0" + stated.to_bytes(8, "little"))
    return head + (len(body) << 3 | 1).to_bytes(3, "little") + body


def test_the_frames_of_these_tests_are_frames() -> None:
    assert zstandard.ZstdDecompressor().decompress(frame(stated=5, body=b"hello")) == b"hello"
    assert decompress(Codec.ZSTD, frame(stated=5, body=b"hello"), 5) == b"hello"
    assert decompress(Codec.ZSTD, frame(stated=None, body=b"hello"), 5) == b"hello"


@pytest.mark.parametrize("stated", [0, 4, 6, 1 << 40, (1 << 64) - 3])
def test_a_frame_that_states_another_size_is_refused_before_it_is_decoded(stated: int) -> None:
    with pytest.raises(DataDamaged, match=r"instead of 5$"):
        decompress(Codec.ZSTD, frame(stated=stated, body=b"hello"), 5)


def without_size(body: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(body)


BOMBS = {
    "zstandard, no size": (Codec.ZSTD, without_size(bytes(32 << 20))),
    "zstandard, right size": (Codec.ZSTD, zstandard.compress(bytes(32 << 20))),
    "lz4": (Codec.LZ4, lz4.block.compress(bytes(32 << 20), store_size=False)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_takes_no_more_memory_than_the_record_states(name: str) -> None:
    codec, packed = BOMBS[name]
    tracemalloc.start()
    try:
        with pytest.raises(DataDamaged):
            decompress(codec, packed, 65536)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_frame_without_size_cannot_stand_for_an_empty_body() -> None:
    with pytest.raises(DataDamaged):
        decompress(Codec.ZSTD, without_size(b"hello"), 0)
