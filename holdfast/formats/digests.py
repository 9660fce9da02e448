"""Digests and roots (docs/formats/chain-file.md section 6)."""

from collections.abc import Iterable, Sequence

from blake3 import blake3

from holdfast.formats.magic import DIGEST_SIZE, PIECE_SIZE, ZERO_DIGEST

_ZERO_PIECE = bytes(PIECE_SIZE)


def piece_digests(data: memoryview | bytes | bytearray, key: bytes) -> list[bytes]:
    """Return the digest of each 64 KiB of ``data``; pieces of zeros give `ZERO_DIGEST`.

    The length of ``data`` is a multiple of 64 KiB.
    """
    view = memoryview(data)
    zero = raw_zero_digest(key)
    found = [
        blake3(view[at : at + PIECE_SIZE], key=key).digest(length=DIGEST_SIZE) for at in range(0, len(view), PIECE_SIZE)
    ]
    if zero in found:
        return [ZERO_DIGEST if digest == zero else digest for digest in found]
    return found


def page_digest(body: bytes, key: bytes) -> bytes:
    """Return the digest by which a ref names a page."""
    return blake3(body, key=key).digest(length=DIGEST_SIZE)


def disk_tag(machine_id: str, key_of_disk: str, key: bytes) -> bytes:
    """Return the 8 bytes by which a unit names a disk."""
    name = machine_id.encode() + b"\0" + key_of_disk.encode()
    return blake3(b"HFTAG\0\0\0" + name, key=key).digest(length=8)


def segment_digest(digests: bytes | bytearray, key: bytes) -> bytes:
    """Return the digest of one segment from its 1024 piece digests."""
    if digests == bytes(len(digests)):
        return ZERO_DIGEST
    return blake3(digests, key=key).digest(length=DIGEST_SIZE)


def disk_root(size_bytes: int, segments: Iterable[bytes], key: bytes) -> bytes:
    """Return the root of a disk's content; ``segments`` are segment digests, joined or not, in order."""
    hasher = blake3(b"HFDISK\0\0" + size_bytes.to_bytes(8, "little"), key=key)
    for digest in segments:
        hasher.update(digest)
    return hasher.digest()


def point_root(
    point_id: bytes,
    parent_root: bytes | None,
    disks: Iterable[tuple[str, bytes]],
    key: bytes,
    files: Sequence[tuple[str, int, bytes]] = (),
) -> bytes:
    """Return the root of a restore point from its disks' keys and roots, and its files' names, sizes and digests."""
    hasher = blake3((b"HFPOINTF" if files else b"HFPOINT\0") + point_id + (parent_root or bytes(32)), key=key)
    if files:
        hasher.update(len(files).to_bytes(2, "little"))
    for name, size, digest in files:
        encoded = name.encode()
        hasher.update(len(encoded).to_bytes(2, "little") + encoded + size.to_bytes(8, "little") + digest)
    for name, root in disks:
        encoded = name.encode()
        hasher.update(len(encoded).to_bytes(2, "little") + encoded + root)
    return hasher.digest()


_raw_zero: dict[bytes, bytes] = {}


def raw_zero_digest(key: bytes) -> bytes:
    """Return what BLAKE3 gives for a piece of zeros under ``key``."""
    found = _raw_zero.get(key)
    if found is None:
        if len(_raw_zero) > 64:  # noqa: PLR2004 - a bound, so that a long-lived worker cannot grow it for ever
            _raw_zero.clear()
        found = _raw_zero[key] = blake3(_ZERO_PIECE, key=key).digest(length=DIGEST_SIZE)
    return found
