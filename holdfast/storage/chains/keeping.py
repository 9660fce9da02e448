"""What is kept with points beside their bytes: notes of each chain, and the rules that were last applied to a machine.

Without a file nothing was noted. One that is damaged is an error, because a lock might stand in it.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from holdfast.errors import FileDamaged, FormatTooNew, RequestInvalid
from holdfast.formats.chain_keep import ChainKeep, NotedOwner, decode_keep, encode_keep, peek_keep
from holdfast.formats.keys import ChainKeys
from holdfast.model.retention import PointNote, RetentionOptions
from holdfast.storage.files.atomic import Files
from holdfast.storage.files.chain_lock import acquire_chain_lock

KEEP_NAME = "chain.keep"
RULES_NAME = "retention.json"
MOVED_NAME = "moved.json"
_HINT = "Bring the file back from a copy of the repository, or remove it: then the marks and locks in it are gone."


class AppliedRules(msgspec.Struct, frozen=True, kw_only=True):
    """Content of the file with the rules that somebody agreed to, or that let nothing go at once."""

    format: int = 1
    rules: RetentionOptions


_APPLIED_RULES_DECODER: Final = msgspec.json.Decoder(AppliedRules)


class MovedAway(msgspec.Struct, frozen=True, kw_only=True):
    """Content of the file that says where the chains of a machine went."""

    format: int = 1
    to: str
    """Name of the repository."""
    at: datetime


_MOVED_AWAY_DECODER: Final = msgspec.json.Decoder(MovedAway)


def read_notes(files: Files, folder: Path, keys: ChainKeys) -> ChainKeep:
    """Return the notes of a chain's points. Raises `FileDamaged`."""
    path = folder / KEEP_NAME
    if not files.exists(path):
        return ChainKeep(chain=keys.chain_id.hex())
    try:
        return decode_keep(files.read(path), keys)
    except (FileDamaged, FormatTooNew) as error:
        raise type(error)(f"{path}: {error.message}", hint=_HINT) from error


def peek_notes(files: Files, folder: Path) -> tuple[PointNote, ...]:
    """Return the notes of a chain's points without a look at their seal: anybody may have written them.

    Nothing may go by them, but what is kept or tried all the same. Damaged ones say nothing.
    """
    path = folder / KEEP_NAME
    keep = peek_keep(files.read(path)) if files.exists(path) else None
    return () if keep is None else keep.points


def is_noted_archive(files: Files, folder: Path) -> bool:
    """Return whether the notes of a chain, wherever it lies, say that it is an archive."""
    return any(note.archive is not None for note in peek_notes(files, folder))


def change_notes(
    files: Files,
    folder: Path,
    keys: ChainKeys,
    change: Callable[[tuple[PointNote, ...]], Iterable[PointNote]],
) -> None:
    """Put what ``change`` makes of the notes of a chain's points in their place; it is called under the chain's lock.

    Raises `ChainBusy`, and `RequestInvalid` when a lock would end earlier than before or be gone.
    """
    lock = acquire_chain_lock(files, folder)
    try:
        known = read_notes(files, folder, keys)
        wanted = tuple(change(known.points))
        if wanted != known.points:
            _check_locks(known.points, wanted)
            keep = msgspec.structs.replace(known, sequence=known.sequence + 1, points=wanted)
            files.replace(folder / KEEP_NAME, encode_keep(keep, keys))
    finally:
        lock.close()


def write_owner(files: Files, folder: Path, keys: ChainKeys, owner: NotedOwner) -> None:
    """Note whose chain it is. The caller has the lock of the chain."""
    known = read_notes(files, folder, keys)
    if known.owner != owner:
        files.replace(folder / KEEP_NAME, encode_keep(known.owned_by(owner), keys))


def _check_locks(known: Iterable[PointNote], wanted: Iterable[PointNote]) -> None:
    locks = {note.point_id: note.locked_until for note in wanted}
    for note in known:
        before, after = note.locked_until, locks.get(note.point_id)
        if before is not None and (after is None or after < before):
            raise RequestInvalid(f"point {note.point_id[:12]} is locked until {before.isoformat(timespec='minutes')}")


def read_rules(files: Files, machine_folder: Path) -> RetentionOptions | None:
    """Return the rules that were last applied to a machine, None when there were none or they cannot be read.

    Without them nothing goes before somebody agrees, so a lost or damaged file costs a question and no point.
    """
    path = machine_folder / RULES_NAME
    if not files.exists(path):
        return None
    try:
        return _APPLIED_RULES_DECODER.decode(files.read(path)).rules
    except msgspec.DecodeError:
        return None


def write_rules(files: Files, machine_folder: Path, rules: RetentionOptions) -> None:
    """Note the rules that are applied to a machine from now on."""
    if read_rules(files, machine_folder) != rules:
        files.replace(machine_folder / RULES_NAME, msgspec.json.encode(AppliedRules(rules=rules)))


def why_no_chain(files: Files, machine_folder: Path) -> str:
    """Return why a machine has no chain here: there never was one, or they were moved."""
    path = machine_folder / MOVED_NAME
    if not files.exists(path):
        return "no chain of this machine yet"
    try:
        moved = _MOVED_AWAY_DECODER.decode(files.read(path))
    except msgspec.DecodeError:
        return "the chains of this machine were moved to another repository"
    return f"the chains of this machine were moved to repository {moved.to} on {moved.at.date().isoformat()}"


def note_moved(files: Files, machine_folder: Path, to: str, at: datetime) -> None:
    """Write down where the chains of a machine went."""
    files.replace(machine_folder / MOVED_NAME, msgspec.json.encode(MovedAway(to=to, at=at)))
