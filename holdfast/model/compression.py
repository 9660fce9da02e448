"""How strongly stored data is compressed."""

from enum import StrEnum


class Compression(StrEnum):
    """A compression level; stronger is slower. ``ZSTD_1`` is the default of every job."""

    NONE = "none"
    LZ4 = "lz4"
    ZSTD_1 = "zstd-1"
    ZSTD_3 = "zstd-3"
    ZSTD_9 = "zstd-9"

    @property
    def zstd_level(self) -> int:
        """Return the level for Zstandard; 0 for the others."""
        return int(self.value.rpartition("-")[2]) if self.value.startswith("zstd") else 0
