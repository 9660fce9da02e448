"""The reference image and its change set.

At scale 1 the image is a sparse ext4 of 5 GiB with about 3.2 GiB of data: 1.9 GiB of the host's own system files, a
second copy of 0.3 GiB of them, 0.7 GiB that does not compress and 0.3 GiB of logs. The change set rewrites 5 % of its
64 KiB pieces (256 MiB): half of them in runs of 1 to 4 MiB, three eighths inside 24 hot windows of 32 MiB, one eighth
anywhere; pieces of random bytes and of words take turns. Everything follows from the seed and the host's system files.
"""

import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import zstandard

from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.spans import Span, coalesce, total_length
from holdfast.testing.images import MIB, FileSystem, Tree, find_program, make_image, system_tree, tree_size

GIB = 1 << 30
SIZE_BYTES = 5 * GIB
_SYSTEM_BYTES = 1945 * MIB
_COPY_BYTES = 307 * MIB
_RANDOM_FILES = 7
_LOG_FILES = 3
_FILE_BYTES = 100 * MIB
_WRITE_BYTES = 4 * MIB
_SEED = 20

_PIECES = SIZE_BYTES // PIECE_SIZE
_RUN_PIECES = 2048
_WINDOW_PIECES = 1536
_ANYWHERE_PIECES = 512
_WINDOWS = 24
_WINDOW_LENGTH = 512
_RUN_LENGTHS = (16, 64)


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """The image, and what went into it."""

    image: str
    size_bytes: int
    system_files: int
    system_bytes: int
    data_bytes: int
    """What is allocated in the image file."""

    @property
    def path(self) -> Path:
        """Return where the image is."""
        return Path(self.image)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A later state of the image."""

    image: str
    spans_file: str
    """The changed spans as JSON."""
    changed_bytes: int
    ideal_bytes: int
    """The changed pieces, packed into blocks of 1 MiB and compressed by zstd 1."""

    @property
    def path(self) -> Path:
        """Return where the changed image is."""
        return Path(self.image)


def reference_image(work: Path, scale: float) -> Reference:
    """Return the image from the work folder, made now unless an earlier run left it there."""
    folder = work / f"reference-{scale:g}"
    facts = folder / "facts.json"
    if facts.exists():
        return msgspec.json.decode(facts.read_bytes(), type=Reference)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path = folder / "disk.raw"
    tree = system_tree(int(_SYSTEM_BYTES * scale))
    size = int(SIZE_BYTES * scale) // MIB * MIB
    staging = folder / "staging"
    make_image(path, FileSystem.EXT4, size, {**tree, **_second_copy(tree, scale), **_data(staging, scale)}, seed=_SEED)
    shutil.rmtree(staging)
    made = Reference(
        image=str(path),
        size_bytes=size,
        system_files=len(tree),
        system_bytes=tree_size(tree),
        data_bytes=path.stat().st_blocks * 512,
    )
    facts.write_bytes(msgspec.json.encode(made))
    return made


def changed_image(before: Path, number: int) -> Change:
    """Return the image ``number`` change sets after the reference, made now unless an earlier run left it there."""
    folder = before.parent
    image, spans_file, facts = (folder / f"changed-{number}.{end}" for end in ("raw", "spans.json", "json"))
    if facts.exists():
        return msgspec.json.decode(facts.read_bytes(), type=Change)
    subprocess.run([find_program("cp"), "--sparse=always", before, image], check=True)
    spans = apply_changes(image, seed=number)
    spans_file.write_bytes(msgspec.json.encode(spans))
    made = Change(
        image=str(image),
        spans_file=str(spans_file),
        changed_bytes=total_length(spans),
        ideal_bytes=_packed_size(image, spans),
    )
    facts.write_bytes(msgspec.json.encode(made))
    return made


def changed_pieces(pieces: int, seed: int) -> list[int]:
    """Return, sorted, the numbers of the pieces that a change set rewrites on a disk of ``pieces`` pieces."""
    rng = random.Random(seed)
    share = pieces / _PIECES
    chosen: set[int] = set()
    while len(chosen) < _RUN_PIECES * share:
        length = rng.randint(*_RUN_LENGTHS)
        first = rng.randrange(pieces - length)
        chosen.update(range(first, first + length))
    windows = [rng.randrange(max(1, pieces - _WINDOW_LENGTH)) for _ in range(max(1, round(_WINDOWS * share)))]
    while len(chosen) < (_RUN_PIECES + _WINDOW_PIECES) * share:
        chosen.add(min(pieces - 1, rng.choice(windows) + rng.randrange(_WINDOW_LENGTH)))
    while len(chosen) < (_RUN_PIECES + _WINDOW_PIECES + _ANYWHERE_PIECES) * share:
        chosen.add(rng.randrange(pieces))
    return sorted(chosen)


def apply_changes(image: Path, seed: int) -> list[Span]:
    """Rewrite the pieces of a change set in an image; return the changed spans."""
    numbers = changed_pieces(image.stat().st_size // PIECE_SIZE, seed)
    rng = random.Random(seed)
    words = [f"{rng.getrandbits(32):08x} " for _ in range(1024)]
    with image.open("r+b") as disk:
        for index, number in enumerate(numbers):
            disk.seek(number * PIECE_SIZE)
            disk.write(_words(rng, words, PIECE_SIZE) if index % 2 else rng.randbytes(PIECE_SIZE))
    return list(coalesce(Span(number * PIECE_SIZE, PIECE_SIZE) for number in numbers))


def _packed_size(image: Path, spans: list[Span]) -> int:
    compressor = zstandard.ZstdCompressor(level=1)
    waiting = bytearray()
    size = 0
    with image.open("rb") as disk:
        for span in spans:
            disk.seek(span.start)
            waiting += disk.read(span.length)
            while len(waiting) >= MIB:
                size += len(compressor.compress(waiting[:MIB]))
                del waiting[:MIB]
    return size + len(compressor.compress(waiting))


def _second_copy(tree: Tree, scale: float) -> Tree:
    copy = {}
    left = int(_COPY_BYTES * scale)
    for name, source in tree.items():
        left -= tree_size({name: source})
        if left < 0:
            break
        copy[f"copy/{name}"] = source
    return copy


def _data(staging: Path, scale: float) -> Tree:
    staging.mkdir()
    size = int(_FILE_BYTES * scale)
    tree = {}
    for number in range(_RANDOM_FILES):
        tree[f"data/r{number}.bin"] = _filled(staging / f"r{number}", size, _random_parts(number))
    for number in range(_LOG_FILES):
        tree[f"data/l{number}.log"] = _filled(staging / f"l{number}", size, _log_parts(number))
    return tree


def _filled(path: Path, size: int, parts: Iterator[bytes]) -> Path:
    with path.open("wb") as file:
        while file.tell() < size:
            file.write(next(parts)[: size - file.tell()])
    return path


def _random_parts(number: int) -> Iterator[bytes]:
    rng = random.Random(_SEED * 100 + number)
    while True:
        yield rng.randbytes(_WRITE_BYTES)


def _log_parts(number: int) -> Iterator[bytes]:
    rng = random.Random(_SEED * 200 + number)
    paths = [f"/{rng.choice(('api', 'static', 'user'))}/{rng.getrandbits(40):x}" for _ in range(3000)]
    second = 0
    while True:
        lines = []
        for _ in range(10_000):
            second += rng.randrange(2)
            clock = f"{second // 3600 % 24:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
            status = rng.choice((200, 200, 200, 304, 404, 500))
            where = f"10.{rng.randrange(4)}.{rng.randrange(256)}.{rng.randrange(256)}"
            took = rng.randrange(900_000)
            lines.append(f"2026-02-03T{clock}Z web{number} {where} GET {rng.choice(paths)} {status} {took}us\n")
        yield "".join(lines).encode()


def _words(rng: random.Random, words: list[str], size: int) -> bytes:
    return "".join(rng.choices(words, k=size // len(words[0]) + 1)).encode()[:size]
