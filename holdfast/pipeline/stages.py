"""Figures of the data pipe: what went through, and where the time went."""

import msgspec

from holdfast.model.compression import Compression
from holdfast.model.session import Figures


class StageTimes(msgspec.Struct, kw_only=True):
    """Seconds during which each stage was busy, summed over its threads."""

    source_s: float = 0.0
    digest_s: float = 0.0
    encode_s: float = 0.0
    answer_wait_s: float = 0.0
    """Nothing could be read on because answers to offers were still on their way."""
    seal_s: float = 0.0
    target_s: float = 0.0
    commit_wait_s: float = 0.0
    throttled_s: float = 0.0
    """Reads that waited to spare their datastore, and units that waited for their share of a limit."""

    def add(self, other: "StageTimes") -> None:
        """Add another's seconds."""
        self.source_s += other.source_s
        self.digest_s += other.digest_s
        self.encode_s += other.encode_s
        self.answer_wait_s += other.answer_wait_s
        self.seal_s += other.seal_s
        self.target_s += other.target_s
        self.commit_wait_s += other.commit_wait_s
        self.throttled_s += other.throttled_s


class PipeProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a disk is. ``committed_bytes`` of the disk are safe whatever dies now."""

    size_bytes: int
    reached_bytes: int
    committed_bytes: int
    figures: Figures
    stages: StageTimes
    written_bytes: int = 0
    """By a restore, zeros included."""


class PipeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Compression and bounds of the pipe."""

    compression: Compression = Compression.ZSTD_1
    threads: int = 2
    in_flight_bytes: int = 16 << 20
    """Read ahead of the packing; about as much again waits to be written."""
    offered_bytes: int = 8 << 20
    """Read, offered, and kept until the answer says what of it is wanted."""
    offered_bytes_max: int = 64 << 20
    """Up to which that grows where answers have a long way."""
    commit_new_bytes: int = 24 << 20
    """A commit starts after this much new data."""
    uncommitted_bytes_max: int = 48 << 20
    """With more data than this not yet durable, the pipe waits for the commit that is on its way."""
    commit_interval_s: float = 2.0
