"""Every magic number, version and size of the file formats; docs/formats/ gives their meaning.

Version history of the chain file: 1, the first.
"""

from enum import IntEnum

CHAIN_MAGIC = b"HFCHAIN1"
RECORD_MAGIC = b"HFRECORD"
METADATA_MAGIC = b"HFMETA01"

FORMAT_VERSION = 1
"""What this version writes, and the newest it reads."""

ALIGNMENT = 4096
SUPERBLOCK_SIZE = 4096
RECORDS_START = 2 * SUPERBLOCK_SIZE

PIECE_SIZE = 64 << 10
PIECE_SHIFT = 16
DIGEST_SIZE = 16
ROOT_SIZE = 32
PIECES_PER_SEGMENT = 1024
SEGMENTS_PER_PAGE = 64
PIECES_PER_PAGE = PIECES_PER_SEGMENT * SEGMENTS_PER_PAGE
"""Pieces that one map page or piece table page speaks of (4 GiB of disk)."""
UNITS_PER_PAGE = 1024
DIGESTS_PER_PAGE = 1024
DIRECTORY_ENTRIES = 512

UNIT_SIZES = (256 << 10, 512 << 10, 1 << 20, 4 << 20)
UNIT_SIZE_DEFAULT = 1 << 20
PIECES_PER_UNIT_MAX = UNIT_SIZES[-1] // PIECE_SIZE
CONTENTS_SIZE_MAX = 64 << 20
"""Upper bound of a record's payload and of a decoded body; guards readers against absurd lengths."""
PLACES_MAX = 1 << 32

NEVER_WRITTEN = 0xFFFFFFFF
"""Writer of pieces of zeros in a map."""
ZERO_DIGEST = bytes(DIGEST_SIZE)


class FileKind(IntEnum):
    """What a chain file holds."""

    FULL = 1
    INCREMENT = 2
    ROLLBACK = 3


class Cipher(IntEnum):
    """How records are encrypted."""

    NONE = 0
    AES_256_GCM = 1


class Codec(IntEnum):
    """How the body of a record is compressed."""

    NONE = 0
    LZ4 = 1
    ZSTD = 2


class RecordKind(IntEnum):
    """What a record is."""

    UNIT = 1
    PAGE = 2
    NOTES = 3
    FILE = 4


class FileState(IntEnum):
    """Whether a chain file is still being written."""

    OPEN = 1
    COMPLETE = 2
