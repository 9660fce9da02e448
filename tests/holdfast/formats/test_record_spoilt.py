"""Pages that a compression library spoils are never sealed."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import zstandard

from holdfast.errors import EncodingFailed
from holdfast.formats.magic import Cipher
from holdfast.formats.record import RecordSealer
from tests.holdfast.formats.test_record import KEY_ID, KEYS, STAMP

BODY = b"".join(number.to_bytes(8, "little") for number in range(50)) + bytes(400)


def half_of_it(compress: Callable[[bytes], bytes], body: bytes) -> bytes:
    return compress(body)[:-40]


def other_bytes(compress: Callable[[bytes], bytes], body: bytes) -> bytes:
    return compress(b"x" + body[1:])


@pytest.mark.parametrize("cipher", list(Cipher))
@pytest.mark.parametrize("harm", [half_of_it, other_bytes])
def test_a_page_that_does_not_come_back_is_refused(
    cipher: Cipher, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Callable[[bytes], bytes], bytes], bytes]
) -> None:
    usual = zstandard.ZstdCompressor

    def compressor(level: int) -> SimpleNamespace:
        return SimpleNamespace(compress=lambda body: harm(usual(level=level).compress, body))

    sealer = RecordSealer(cipher, KEYS[KEY_ID])
    assert sealer.page(STAMP, BODY)
    monkeypatch.setattr(zstandard, "ZstdCompressor", compressor)
    with pytest.raises(EncodingFailed, match="a page of 800 bytes"):
        sealer.page(STAMP, BODY)
