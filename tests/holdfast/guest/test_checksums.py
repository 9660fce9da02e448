"""The checksums are the ones of the catalogue, before the last inversion."""

from holdfast.guest.checksums import crc16, crc32c


def test_crc32c_has_its_check_value() -> None:
    assert crc32c(b"123456789") ^ 0xFFFFFFFF == 0xE3069283


def test_crc32c_goes_on_where_it_stopped() -> None:
    assert crc32c(b"6789", crc32c(b"12345")) == crc32c(b"123456789")


def test_crc16_has_its_check_value() -> None:
    assert crc16(b"123456789", 0) == 0xBB3D  # CRC-16/ARC
