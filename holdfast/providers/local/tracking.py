"""Change tracking without help from the operating system.

When a snapshot is taken, the allocated part of each frozen disk is read once, digested in pieces
and compared with the digests of the snapshot before. A piece carries the generation at which it
was last seen to differ, so the pieces that changed since any earlier state are those with a
higher generation. A piece that changed after a snapshot counts as changed for that snapshot too,
which is harmless.

Each generation has an id drawn at random: it is what a change id says. A folder that was set back
to an earlier copy of itself can therefore never mistake a new state for an old one of the same
number.

The map is replaced before the snapshot appears. A crash in between leaves a generation without a
snapshot, whose changes stay marked; the other order could give two states the same id.
"""

import secrets
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import groupby
from pathlib import Path

import blake3

from holdfast.errors import ChangeTrackingLost
from holdfast.model.ids import ChangeId
from holdfast.model.spans import Span, align
from holdfast.providers.local.change_map import (
    DIGEST_SIZE,
    DIGESTS_SIZE,
    GENERATION_MAX,
    PIECE_SIZE,
    RECORD_SIZE,
    STATE_ID_SIZE,
    STATES_MAX,
    WINDOW_SIZE,
    ChangeMap,
    Header,
    updated,
    write_map,
)
from holdfast.providers.raw_disks import FrozenDisk

_READ_SIZE = 1 << 20
_THREADS = 2
_WINDOWS_IN_FLIGHT = 4
_ZERO_DIGEST = bytes(DIGEST_SIZE)


def record_state(disk: FrozenDisk, path: Path) -> ChangeId:
    """Compare a frozen disk with the map, replace the map, return this state's change id.

    Tracking begins anew, so that earlier change ids are lost, when the map is missing or damaged or
    the disk has shrunk. Raises `OSError` and `DiskReadFailed`; the old map then stays. One caller
    at a time per map.
    """
    path.parent.mkdir(exist_ok=True)
    before = _known(path, disk.size_bytes)
    if before is None:
        return _replace(path, _first(disk.size_bytes), disk, None)
    with before:
        return _replace(path, _following(before.header, disk.size_bytes), disk, before)


def changed_spans(path: Path, since: ChangeId, until: ChangeId, size_bytes: int) -> Iterator[Span]:
    """Yield what may differ between two states, cut at ``size_bytes``, the size of the later one.

    The map is checked before this returns: `ChangeTrackingLost` comes from the call.
    """
    spans = _changed_spans(path, since, until, size_bytes)
    # An iterator that has run to its first value has opened and verified the map, and closes it
    # when it is dropped.
    first = next(spans, None)
    return iter(()) if first is None else _followed(first, spans)


def _known(path: Path, size_bytes: int) -> ChangeMap | None:
    """Return the map to go on with, open, or None when tracking has to begin anew."""
    try:
        found = ChangeMap(path)
    except ChangeTrackingLost:
        # Not silent: the change ids given out before are unknown from now on, and whoever uses one
        # is told so.
        return None
    if found.header.disk_size_bytes <= size_bytes and found.header.generation < GENERATION_MAX:
        return found
    found.close()
    return None


def _replace(path: Path, header: Header, disk: FrozenDisk, before: ChangeMap | None) -> ChangeId:
    with closing(_compared(disk, header, before)) as records:
        write_map(path, header, records)
    return header.change_id()


def _changed_spans(path: Path, since: ChangeId, until: ChangeId, size_bytes: int) -> Iterator[Span]:
    with ChangeMap(path) as found:
        start, end = found.header.generation_of(since), found.header.generation_of(until)
        if start > end:
            raise ChangeTrackingLost(f"change id {since!r} is newer than the snapshot's, {until!r}")
        if start < end:
            yield from found.changed_spans(start, size_bytes)


def _followed(first: Span, rest: Iterator[Span]) -> Iterator[Span]:
    yield first
    yield from rest


def _first(size_bytes: int) -> Header:
    return Header(
        generation=1,
        tracking_id=secrets.token_bytes(STATE_ID_SIZE),
        disk_size_bytes=size_bytes,
        states=(secrets.token_bytes(STATE_ID_SIZE),),
    )


def _following(header: Header, size_bytes: int) -> Header:
    states = (*header.states, secrets.token_bytes(STATE_ID_SIZE))[-STATES_MAX:]
    return Header(
        generation=header.generation + 1,
        tracking_id=header.tracking_id,
        disk_size_bytes=size_bytes,
        states=states,
    )


def _compared(disk: FrozenDisk, header: Header, before: ChangeMap | None) -> Generator[tuple[int, bytes], None, None]:
    """Yield the new record of every window that is or was more than a hole."""
    key = header.hash_key()
    zeros = blake3.blake3(bytes(PIECE_SIZE), key=key).digest(length=DIGEST_SIZE)
    with ThreadPoolExecutor(_THREADS, "change-tracking") as threads:
        pending: deque[tuple[int, Future[bytes]]] = deque()
        try:
            for window, spans in _windows(disk, before):
                digests = threads.submit(_digest_window, disk, spans, key, zeros)
                pending.append((window, digests))
                if len(pending) == _WINDOWS_IN_FLIGHT:
                    yield _next_record(pending, header, before)
            while pending:
                yield _next_record(pending, header, before)
        finally:
            threads.shutdown(cancel_futures=True)


def _next_record(
    pending: deque[tuple[int, Future[bytes]]], header: Header, before: ChangeMap | None
) -> tuple[int, bytes]:
    window, digests = pending.popleft()
    record = bytes(RECORD_SIZE) if before is None else before.record(window)
    return window, updated(record, digests.result(), header.generation)


def _windows(disk: FrozenDisk, before: ChangeMap | None) -> Iterator[tuple[int, list[Span]]]:
    """Yield, ascending, each window that has data now or had some before, with its data spans."""
    known = iter(()) if before is None else before.windows()
    old = next(known, None)
    for window, spans in _allocated_windows(disk):
        while old is not None and old < window:
            yield old, []
            old = next(known, None)
        if old == window:
            old = next(known, None)
        yield window, spans
    while old is not None:
        yield old, []
        old = next(known, None)


def _allocated_windows(disk: FrozenDisk) -> Iterator[tuple[int, list[Span]]]:
    aligned = align(disk.allocated_spans(), PIECE_SIZE, disk.size_bytes)
    for window, spans in groupby(_cut(aligned), lambda span: span.start // WINDOW_SIZE):
        yield window, list(spans)


def _cut(spans: Iterable[Span]) -> Iterator[Span]:
    """Cut spans at the borders of windows."""
    for span in spans:
        start = span.start
        while start < span.end:
            end = min((start // WINDOW_SIZE + 1) * WINDOW_SIZE, span.end)
            yield Span(start, end - start)
            start = end


def _digest_window(disk: FrozenDisk, spans: list[Span], key: bytes, zeros: bytes) -> bytes:
    """Return the digests of one window; every span lies in it and starts at a piece."""
    digests = bytearray(DIGESTS_SIZE)
    buffer = memoryview(bytearray(_READ_SIZE))
    for span in spans:
        for offset in range(span.start, span.end, _READ_SIZE):
            length = min(_READ_SIZE, span.end - offset)
            disk.read_into(offset, buffer[:length])
            padded = -(-length // PIECE_SIZE) * PIECE_SIZE
            buffer[length:padded] = bytes(padded - length)
            at = offset % WINDOW_SIZE // PIECE_SIZE * DIGEST_SIZE
            for piece in range(0, padded, PIECE_SIZE):
                found = blake3.blake3(buffer[piece : piece + PIECE_SIZE], key=key).digest(length=DIGEST_SIZE)
                digests[at : at + DIGEST_SIZE] = _ZERO_DIGEST if found == zeros else found
                at += DIGEST_SIZE
    return bytes(digests)
