"""The health file of a chain: read as written, or refused."""

import zlib
from datetime import UTC, datetime

import msgspec
import pytest

from holdfast.errors import FileDamaged, FormatTooNew, FormatUnknown
from holdfast.formats.chain_health import (
    HEALTH_MAGIC,
    ChainHealth,
    FileHealth,
    PointMark,
    UnitMark,
    decode_health,
    encode_health,
)
from holdfast.model.points import Health
from holdfast.model.reads import ReadSpan

NOW = datetime(2026, 11, 21, tzinfo=UTC)
HEALTH = ChainHealth(
    files=(FileHealth(file="aa", reads=(ReadSpan(0, 10, NOW),), units=(UnitMark(3, "bad"),), problem="torn"),),
    points=(PointMark(number=2, point_id="id", machine="web", state=Health.DAMAGED, reason="bad"),),
)


def test_it_reads_as_it_was_written() -> None:
    assert decode_health(encode_health(HEALTH)) == HEALTH


def test_what_is_known_of_a_file_and_a_point() -> None:
    assert HEALTH.file("aa").problem == "torn"
    assert HEALTH.file("bb") == FileHealth(file="bb")
    assert HEALTH.with_file(FileHealth(file="aa")).file("aa").units == ()
    assert HEALTH.mark(2) == HEALTH.points[0]
    assert HEALTH.mark(1) is None


def test_any_flipped_bit_is_found() -> None:
    data = encode_health(HEALTH)
    for at in range(len(data)):
        flipped = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises((FileDamaged, FormatUnknown)):
            decode_health(flipped)


def test_a_file_that_ends_early_is_damaged() -> None:
    with pytest.raises(FileDamaged):
        decode_health(HEALTH_MAGIC)


def test_a_body_that_is_not_ours_is_damaged() -> None:
    body = b"[]"
    with pytest.raises(FileDamaged):
        decode_health(HEALTH_MAGIC + zlib.crc32(body).to_bytes(4, "little") + body)


def test_a_newer_format_is_refused() -> None:
    with pytest.raises(FormatTooNew):
        decode_health(encode_health(msgspec.structs.replace(HEALTH, format=99)))
