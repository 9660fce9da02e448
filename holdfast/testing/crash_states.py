"""Every state in which a crash may leave a file system, told from the log of `holdfast.testing.crashfs`.

A write or a change of a name is certain once the file or the folder was flushed. Before that it may be lost or kept,
whatever came before or after it, and the newest write may also be torn.
"""

import itertools
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from holdfast.testing.crashfs import SECTOR, CrashFiles, Event, move_folder

PAGE = 4096
_ALL_SUBSETS_UP_TO = 5
_TORN = 0.1


class CrashState(msgspec.Struct, frozen=True, kw_only=True):
    """What a crash may leave. A state is small: its files are put together when they are asked for."""

    told: tuple[str, ...]
    """Labels of the marks before the crash."""
    description: str
    images: Mapping[int, bytes]
    """What was durable for certain."""
    names: Mapping[Path, int]
    folders: frozenset[Path]
    writes: Mapping[int, Sequence[Event]]
    """What else came about, in this order."""
    moves: Sequence[Event]

    def files(self) -> CrashFiles:
        """Return the file system as the crash leaves it; another one at each call."""
        names, folders = dict(self.names), set(self.folders)
        _moved(names, folders, self.moves)
        files = CrashFiles(folders)
        files.entries = names
        for inode in {*names.values()}:
            files.images[inode] = bytearray(_written(self.images.get(inode, b""), self.writes.get(inode, ())))
        return files


class _Storage:
    """What is durable at one point of a log, and what waits."""

    def __init__(self, base: CrashFiles) -> None:
        self.images: dict[int, bytes] = {inode: bytes(image) for inode, image in base.images.items()}
        self.names = dict(base.entries)
        self.folders = set(base.folders)
        self.writes: dict[int, list[Event]] = {}
        self.moves: list[Event] = []
        self.told: list[str] = []

    def apply(self, event: Event) -> None:
        match event.kind:
            case "write" | "truncate":
                self.writes.setdefault(event.inode, []).append(event)
            case "sync" | "failed-sync":
                waiting = self.writes.pop(event.inode, [])
                kept = range(len(waiting)) if event.kind == "sync" else event.kept
                self.images[event.inode] = _written(self.images.get(event.inode, b""), [waiting[at] for at in kept])
            case "sync-folder":
                self._settle(event.path)
            case "mark":
                self.told.append(event.label)
            case _:
                self.moves.append(event)

    def _settle(self, folder: Path) -> None:
        settled = [move for move in self.moves if move.path.parent == folder]
        self.moves = [move for move in self.moves if move.path.parent != folder]
        _moved(self.names, self.folders, settled)

    def state(self, writes: dict[int, list[Event]], moves: list[Event], description: str) -> CrashState:
        """Return the state in which just these waiting writes and changes of names have come about."""
        return CrashState(
            told=tuple(self.told),
            description=description,
            images=dict(self.images),
            names=dict(self.names),
            folders=frozenset(self.folders),
            writes=writes,
            moves=tuple(moves),
        )


def crash_states(
    base: CrashFiles, events: Sequence[Event], rng: random.Random, *, samples: int = 6
) -> Iterator[CrashState]:
    """Yield what a crash after each event may leave, beginning with ``base``.

    Up to five waiting writes are taken in all subsets; of more, every prefix, every single one lost or alone, and
    ``samples`` random subsets in random order. Of each, one write at a time is also torn.
    """
    storage = _Storage(base)
    yield storage.state({}, [], "before everything")
    for number, event in enumerate(events):
        storage.apply(event)
        if event.kind == "mark":
            continue
        after = f"after event {number} ({event.kind} {event.path.name})"
        for moves in _subsets(storage.moves):
            yield storage.state({}, moves, f"{after}: {len(moves)} of {len(storage.moves)} names, no writes")
        for inode, waiting in storage.writes.items():
            for description, kept in _outcomes(waiting, rng, samples):
                yield storage.state({inode: kept}, storage.moves, f"{after}: {description}")


def lost_power(base: CrashFiles, events: Sequence[Event], rng: random.Random) -> CrashState:
    """Return one state that a crash after the last event may leave: what waits came about or not, as chance has it.

    A write that is kept may be torn.
    """
    storage = _Storage(base)
    for event in events:
        storage.apply(event)
    writes = {
        inode: [_maybe_torn(event, rng) for event in _some(waiting, rng)] for inode, waiting in storage.writes.items()
    }
    return storage.state(writes, _some(storage.moves, rng), "power lost")


def died(base: CrashFiles, events: Sequence[Event]) -> CrashState:
    """Return the state that a process leaves that died after the last event: everything came about."""
    storage = _Storage(base)
    for event in events:
        storage.apply(event)
    return storage.state(storage.writes, storage.moves, "process died")


def _some(events: Sequence[Event], rng: random.Random) -> list[Event]:
    share = rng.random()
    return [event for event in events if rng.random() < share]


def _maybe_torn(event: Event, rng: random.Random) -> Event:
    parts = [*_torn(event)]
    return rng.choice(parts) if parts and rng.random() < _TORN else event


def _outcomes(waiting: list[Event], rng: random.Random, samples: int) -> Iterator[tuple[str, list[Event]]]:
    if len(waiting) <= _ALL_SUBSETS_UP_TO:
        for subset in _subsets(waiting):
            yield f"{len(subset)} of {len(waiting)} writes", subset
    else:
        yield from _some_subsets(waiting, rng, samples)
    newest = waiting[-1]
    for part in _torn(newest):
        yield f"the last of {len(waiting)} writes torn to {len(part.data)} at {part.offset}", [*waiting[:-1], part]
        yield f"only a torn {len(part.data)} at {part.offset}", [part]


def _some_subsets(waiting: list[Event], rng: random.Random, samples: int) -> Iterator[tuple[str, list[Event]]]:
    # What ended before the newest write was enumerated after the write before it.
    yield "all writes", list(waiting)
    yield "the last write alone", [waiting[-1]]
    for lost in range(len(waiting) - 1):
        yield f"write {lost} lost", [*waiting[:lost], *waiting[lost + 1 :]]
    for _ in range(samples):
        chosen = [event for event in waiting if rng.random() < 0.5]  # noqa: PLR2004 - a fair coin
        rng.shuffle(chosen)
        yield f"{len(chosen)} writes in another order", chosen


def _torn(event: Event) -> Iterator[Event]:
    """Yield beginnings, ends and the middle of a write, cut at sectors and pages."""
    data, start = event.data, event.offset
    cuts = {SECTOR, PAGE, len(data) // 2 // SECTOR * SECTOR, (len(data) - 1) // SECTOR * SECTOR}
    for cut in sorted(cut for cut in cuts if 0 < cut < len(data)):
        yield msgspec.structs.replace(event, data=data[:cut])
        yield msgspec.structs.replace(event, data=data[cut:], offset=start + cut)


def _subsets(events: Sequence[Event]) -> Iterator[list[Event]]:
    for count in range(len(events) + 1):
        for subset in itertools.combinations(events, count):
            yield list(subset)


def _written(image: bytes, events: Iterable[Event]) -> bytes:
    changed = bytearray(image)
    for event in events:
        if event.kind == "truncate":
            changed.clear()
            continue
        changed.extend(bytes(max(0, event.offset + len(event.data) - len(changed))))
        changed[event.offset : event.offset + len(event.data)] = event.data
    return bytes(changed)


def _moved(names: dict[Path, int], folders: set[Path], moves: Iterable[Event]) -> None:
    for move in moves:
        match move.kind:
            case "link":
                names[move.path] = move.inode
            case "unlink":
                names.pop(move.path, None)
            case "folder":
                folders.add(move.path)
            case "rename-folder":
                move_folder(names, folders, Path(move.label), move.path)
            case "unlink-folder":
                folders.discard(move.path)
            case "rename":
                names.pop(Path(move.label), None)
                names[move.path] = move.inode
            case _:
                raise ValueError(f"{move.kind} changes no name")
