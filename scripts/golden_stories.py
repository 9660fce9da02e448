"""What the golden chains are to hold: the disks and files of a machine at each point of each chain."""

import random
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import msgspec

from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.compression import Compression
from holdfast.model.machine_files import MachineFile
from holdfast.model.spans import Span, coalesce


class Content:
    """A disk: its size, and the pieces that are not zeros. It can be read as a source disk."""

    def __init__(self, size_bytes: int, pieces: dict[int, bytes]) -> None:
        self.size_bytes = size_bytes
        self.pieces = {
            number: data.ljust(PIECE_SIZE, b"\0")[: size_bytes - number * PIECE_SIZE]
            for number, data in sorted(pieces.items())
            if number * PIECE_SIZE < size_bytes and any(data)
        }

    def changed(self, pieces: dict[int, bytes], size_bytes: int | None = None) -> "Content":
        """Return the disk with some pieces replaced, and perhaps another size."""
        return Content(self.size_bytes if size_bytes is None else size_bytes, {**self.pieces, **pieces})

    def differing_spans(self, other: "Content") -> Iterator[Span]:
        """Yield a sector of every piece that differs: what a provider reports need not be whole pieces."""
        for number in sorted({*self.pieces, *other.pieces}):
            if self.pieces.get(number) != other.pieces.get(number):
                yield Span(number * PIECE_SIZE, 512)

    def allocated_spans(self) -> Iterator[Span]:
        """Yield what is not zeros."""
        yield from coalesce(Span(number * PIECE_SIZE, len(data)) for number, data in self.pieces.items())

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with the bytes from ``offset``, a multiple of 64 KiB."""
        for at in range(0, len(buffer), PIECE_SIZE):
            part = buffer[at : at + PIECE_SIZE]
            part[:] = self.pieces.get((offset + at) // PIECE_SIZE, b"").ljust(len(part), b"\0")

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def __enter__(self) -> Self:
        """Enter a block that needs a disk which can be closed."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the block."""


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """A golden chain: how it is written, and the machine's disks at each point."""

    name: str
    unit_size: int
    compression: Compression
    points: list[dict[str, Content]]
    passphrase: str | None = None
    files: list[list[MachineFile]] = []
    """Machine files of each point; of none when there is no list for it."""
    cut: int | None = None
    """Chunks after which the last disk of the last point stops; None when all points are finished."""

    @property
    def machine_id(self) -> str:
        """Return the id of the machine."""
        return f"golden-{self.name}"


def text(label: str) -> bytes:
    """Return a piece that compresses well."""
    return (f"golden piece {label} ".encode().ljust(63, b".") + b"\n") * (PIECE_SIZE // 64)


def noise(label: str) -> bytes:
    """Return a piece that does not compress."""
    return drawn(f"noise {label}")(PIECE_SIZE)


def stories() -> list[Story]:
    """Return every golden chain of this version."""
    return [
        _plain_zstd(),
        _plain_lz4(),
        _plain_none(),
        _encrypted_zstd(),
        _encrypted_lz4(),
        _sparse(),
        _machine_files(),
    ]


def _plain_zstd() -> Story:
    """Make two increments: zeroed pieces, equal pieces in one and in two files, a tail of one sector."""
    first = {number: text(f"{number}") for number in (0, 1, 2, *range(20, 26))}
    disk = Content(
        39 * PIECE_SIZE + 512, {**first, 5: noise("zstd"), 7: first[0], 11: first[0], 39: b"tail of one sector"}
    )
    second = disk.changed({1: text("1b"), 2: b"", 20: b"", 21: b"", 22: text("1b"), 30: text("30"), 31: first[0]})
    third = second.changed({2: text("2c"), 5: b"", 8: text("8c"), 9: text("8c"), 30: text("30c"), 39: b"new tail"})
    return Story(
        name="plain-zstd",
        unit_size=256 << 10,
        compression=Compression.ZSTD_1,
        points=[{"scsi0:0": disk}, {"scsi0:0": second}, {"scsi0:0": third}],
    )


def _plain_lz4() -> Story:
    """Share pieces between disks, keep one of zeros alone; the increment adds a third, lets the second go."""
    system = Content(24 * PIECE_SIZE, {number: text(f"system {number % 19}") for number in range(22)})
    empty = Content(1 << 20, {})
    added = Content(3 * PIECE_SIZE + 1024, {0: text("system 3"), 2: text("added"), 3: b"end"})
    return Story(
        name="plain-lz4",
        unit_size=1 << 20,
        compression=Compression.LZ4,
        points=[
            {"scsi0:0": system, "scsi0:1": empty},
            {"scsi0:0": system.changed({0: text("boot"), 23: text("last")}), "datastore/päge 2": added},
        ],
    )


def _plain_none() -> Story:
    """Compress nothing."""
    disk = Content(6 * PIECE_SIZE, {number: text(f"raw {number}") for number in range(5)})
    return Story(
        name="plain-none",
        unit_size=256 << 10,
        compression=Compression.NONE,
        points=[{"d0": disk}, {"d0": disk.changed({3: text("raw 3b"), 4: b""})}],
    )


def _encrypted_zstd() -> Story:
    """Let a disk grow and shrink, both inside a piece."""
    disk = Content(9 * PIECE_SIZE + 4096, {**{number: text(f"e{number}") for number in range(9)}, 9: b"edge" * 1024})
    grown = disk.changed({4: noise("encrypted"), 9: b"edge" * 5000, 30: text("far")}, 31 * PIECE_SIZE)
    shrunk = grown.changed({9: b"edge" * 200}, 9 * PIECE_SIZE + 1024)
    return Story(
        name="encrypted-zstd",
        unit_size=1 << 20,
        compression=Compression.ZSTD_9,
        passphrase="correct horse battery staple",  # noqa: S106 - it stands in the manifest
        points=[{"d0": disk}, {"d0": grown}, {"d0": shrunk}],
    )


def _encrypted_lz4() -> Story:
    """Cut off the increment in the middle of the second disk."""
    left = Content(130 * PIECE_SIZE, {number: text(f"left {number}") for number in range(130) if number % 10})
    right = Content(200 * PIECE_SIZE, {number: text(f"right {number}") for number in range(3, 200, 30)})
    odd = {number: text(f"odd {number}") for number in range(1, 200, 12)}
    return Story(
        name="encrypted-lz4",
        unit_size=4 << 20,
        compression=Compression.LZ4,
        passphrase="pässword with ümlauts",  # noqa: S106 - it stands in the manifest
        points=[
            {"left": left, "right": right},
            {"left": left.changed({2: text("left 2b"), 4: b""}), "right": right.changed(odd)},
        ],
        cut=9,
    )


def _sparse() -> Story:
    """Fill tables of more than one page: a disk of a little over 4 GiB."""
    disk = Content(65540 * PIECE_SIZE + 512, {0: text("s0"), 65535: text("s1"), 65536: text("s2"), 65540: b"end"})
    return Story(
        name="sparse",
        unit_size=512 << 10,
        compression=Compression.ZSTD_3,
        points=[{"d0": disk}, {"d0": disk.changed({1024: text("s3"), 65535: b"", 65537: text("s0")})}],
    )


def _machine_files() -> Story:
    """Keep files of the machine: an empty one, one that stays, one that another takes the place of."""
    disk = Content(4 * PIECE_SIZE, {number: text(f"f{number}") for number in range(3)})
    changed = disk.changed({1: text("f1b")})
    vmx = MachineFile(name="golden.vmx", content=b'displayName = "golden"\nfirmware = "efi"\n' * 20)
    nvram = MachineFile(name="golden.nvram", content=drawn("nvram")(6000))
    other = MachineFile(name="gölden 2.nvram", content=nvram.content[:500] + b"variable" * 900)
    return Story(
        name="machine-files",
        unit_size=256 << 10,
        compression=Compression.ZSTD_1,
        passphrase="small files",  # noqa: S106 - it stands in the manifest
        points=[{"d0": disk}, {"d0": changed}],
        files=[[vmx, nvram, MachineFile(name="empty.vmxf", content=b"")], [vmx, other]],
    )


def drawn(seed: str) -> Callable[[int], bytes]:
    """Return a source of bytes that follow from ``seed``."""
    return random.Random(seed).randbytes  # noqa: S311 - golden bytes follow from a name
