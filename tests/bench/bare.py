"""What the library calls of a full cost alone: the floor under the pipe on a processor."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from holdfast.formats.codec import compress
from holdfast.formats.digests import piece_digests
from holdfast.formats.magic import PIECE_SIZE, Cipher
from holdfast.formats.record import PieceEntry, RecordOpener, RecordSealer, Stamp
from holdfast.model.compression import Compression
from holdfast.pipeline.buffers import keep_freed_blocks
from holdfast.pipeline.disks import DiskReader

_THREADS = 2
_BATCH = 8
_KEY = bytes(32)
_TAG = bytes(8)
_ID = bytes(16)


def bare_calls(reader: DiskReader, unit_size: int, compression: Compression) -> int:
    """Read, digest, compress, encrypt, decrypt, decode and compare everything allocated; return how many bytes.

    Two threads with half of the units each share nothing. Nothing is deduplicated, written or made durable.
    """
    keep_freed_blocks()
    units = sorted(
        {
            start // unit_size * unit_size
            for span in reader.allocated_spans()
            for start in range(span.start // unit_size * unit_size, span.end, unit_size)
        }
    )
    work = _worker(reader, unit_size, compression)
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(work, (range(thread, len(units), _THREADS) for thread in range(_THREADS)), [units] * _THREADS))
    return len(units) * unit_size


def _worker(reader: DiskReader, unit_size: int, compression: Compression) -> Callable[[range, list[int]], None]:
    sealer = RecordSealer(Cipher.AES_256_GCM, _KEY)
    opener = RecordOpener(Cipher.AES_256_GCM, lambda _: _KEY)

    def encode(number: int, body: bytearray, digests: list[bytes]) -> None:
        entries = [PieceEntry(_TAG, piece, digest) for piece, digest in enumerate(digests)]
        codec, packed = compress(body, compression)
        found, decoded = opener.sealed_unit(sealer.unit(Stamp(1, number, 1, _ID, _ID), entries, codec, packed))
        assert found == entries
        assert body == (decoded if isinstance(decoded, bytes) else bytes(decoded))

    def work(numbers: range, units: list[int]) -> None:
        buffers = [bytearray(unit_size) for _ in range(_BATCH)]
        for first in range(0, len(numbers), _BATCH):
            batch = numbers[first : first + _BATCH]
            for number, buffer in zip(batch, buffers, strict=False):
                _read(reader, units[number], buffer)
            digests = [piece_digests(buffer, _KEY) for buffer in buffers[: len(batch)]]
            for number, buffer, found in zip(batch, buffers, digests, strict=False):
                encode(number, buffer, found)

    return work


def _read(reader: DiskReader, offset: int, buffer: bytearray) -> None:
    there = min(len(buffer), reader.size_bytes - offset)
    reader.read_into(offset, memoryview(buffer)[:there])
    assert there % PIECE_SIZE == 0
