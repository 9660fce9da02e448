"""Compression of record bodies.

Contexts are made for each call: they cannot be shared between threads, and making one costs a few microseconds.
"""

from typing import assert_never

import lz4.block
import zstandard

from holdfast.errors import DataDamaged
from holdfast.formats.magic import CONTENTS_SIZE_MAX, Codec
from holdfast.model.compression import Compression


def compress(body: memoryview | bytes | bytearray, level: Compression) -> tuple[Codec, bytes | memoryview | bytearray]:
    """Return the codec and the compressed body, or the body itself when compression would not make it smaller."""
    if level is Compression.NONE:
        return Codec.NONE, body
    if level is Compression.LZ4:
        packed, codec = lz4.block.compress(body, store_size=False), Codec.LZ4
    else:
        packed, codec = zstandard.ZstdCompressor(level=level.zstd_level).compress(body), Codec.ZSTD
    if len(packed) >= len(body):
        return Codec.NONE, body
    return codec, packed


def decompress(codec: Codec, packed: memoryview | bytes, raw: int) -> bytes | memoryview:
    """Return the body of exactly ``raw`` bytes, or raise `DataDamaged`."""
    if raw > CONTENTS_SIZE_MAX:
        raise DataDamaged(f"body of {raw} bytes is above the limit")
    body: bytes | memoryview
    try:
        match codec:
            case Codec.NONE:
                body = packed
            case Codec.LZ4:
                body = lz4.block.decompress(packed, uncompressed_size=raw)
            case Codec.ZSTD:
                body = _decompress_zstd(packed, raw)
            case _:
                assert_never(codec)
    except (lz4.block.LZ4BlockError, zstandard.ZstdError, MemoryError) as error:
        raise DataDamaged(f"body cannot be decoded: {error}") from error
    if len(body) != raw:
        raise DataDamaged(f"body decodes to {len(body)} bytes instead of {raw}")
    return body


def _decompress_zstd(packed: memoryview | bytes, raw: int) -> bytes:
    # A frame states its own size, and the library allocates what it states: look before believing it.
    stated = zstandard.frame_content_size(bytes(packed[:32]))
    if stated not in {raw, -1}:
        raise DataDamaged(f"frame states {stated} bytes instead of {raw}")
    return zstandard.ZstdDecompressor().decompress(packed, max_output_size=raw, allow_extra_data=False)
