"""Checksums of file systems that the standard library does not have."""

_CRC32C_POLYNOMIAL = 0x82F63B78
_CRC16_POLYNOMIAL = 0xA001
CRC32C_START = 0xFFFFFFFF
CRC16_START = 0xFFFF


def crc32c(data: bytes, register: int = CRC32C_START) -> int:
    """Return the register of CRC-32C behind ``data``, not inverted at the end."""
    table = _CRC32C_TABLE
    for byte in data:
        register = table[(register ^ byte) & 0xFF] ^ (register >> 8)
    return register


def crc16(data: bytes, register: int = CRC16_START) -> int:
    """Return the register of CRC-16 (the reflected one of ext4's group descriptors) behind ``data``."""
    table = _CRC16_TABLE
    for byte in data:
        register = table[(register ^ byte) & 0xFF] ^ (register >> 8)
    return register


def _table(polynomial: int) -> tuple[int, ...]:
    rows = []
    for row in range(256):
        register = row
        for _ in range(8):
            register = register >> 1 ^ (polynomial if register & 1 else 0)
        rows.append(register)
    return tuple(rows)


_CRC32C_TABLE = _table(_CRC32C_POLYNOMIAL)
_CRC16_TABLE = _table(_CRC16_POLYNOMIAL)
