"""Takes increments that cannot be read any more out of their chain, which can be continued then.

It goes on behind its last good point. The files are renamed, never removed: the points behind a lost one cannot be
restored without it, but their bytes may be good, and somebody may find another copy of the lost file. What goes is
announced in the metadata before.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from holdfast.faults import reach
from holdfast.formats.chain_health import ChainHealth, PointMark
from holdfast.formats.chain_metadata import Leaving
from holdfast.model.points import Health
from holdfast.storage.chains.chain import Chain, chain_file_names
from holdfast.storage.chains.metadata import refresh_metadata
from holdfast.storage.files.atomic import Files
from holdfast.storage.files.chain_lock import acquire_chain_lock
from holdfast.storage.health.health_file import PointFacts, change_health, read_health
from holdfast.storage.health.marking import facts_of
from holdfast.storage.health.salvage import free_damaged_name

_ASIDE: Final = re.compile(r"(?P<number>[0-9]{8})-(full|increment|rollback)\.hfc\.(damaged(-[0-9]+)?|removed-\w+)")
_INCREMENT: Final = re.compile(r"(?P<number>[0-9]{8})-increment\.hfc")


def highest_set_aside(names: Sequence[str]) -> int:
    """Return the highest number of a point whose file was set aside as damaged or removed, 0 when none was.

    A new point gets a higher one: the catalog knows the other point by its number, and its file may be wanted back.
    """
    return max((int(found["number"]) for name in names if (found := _ASIDE.fullmatch(name))), default=0)


def highest_lost(files: Files, folder: Path) -> int:
    """Return the same, with the points that a file had besides its first one, which are noted as missing."""
    missing = (mark.number for mark in read_health(files, folder).points if mark.state is Health.MISSING)
    return max(highest_set_aside(files.names(folder)), *missing, 0)


def files_behind(files: Files, folder: Path, broken: Sequence[str]) -> list[str]:
    """Return what has to go with broken increments, the newest first: the first of them and all increments behind it.

    Nothing when what is broken is not an increment, or has something else than increments behind it.
    """
    if not broken or not all(map(_INCREMENT.fullmatch, broken)):
        return []
    names = chain_file_names(files, folder)
    going = names[names.index(min(broken)) :]
    return list(reversed(going)) if all(map(_INCREMENT.fullmatch, going)) else []


def set_aside(files: Files, folder: Path, passphrase: str | None, going: Sequence[str]) -> None:
    """Rename files, newest first, and mark their points as missing. May be repeated. Raises `ChainBusy`.

    They are the last of the chain; a file is named by the first of its points.
    """
    if not going:
        return
    first = min(int(name[:8]) for name in going)
    lock = acquire_chain_lock(files, folder)
    try:
        with Chain.open(files, folder, passphrase) as chain:
            facts = [fact for fact in facts_of(files, chain) if fact.number >= first]
            ids = tuple(file.contents.file for file in chain.files if file.path.name in going)
        numbers = {int(name[:8]) for name in going} | {fact.number for fact in facts}
        change_health(files, folder, lambda health: _with_missing(health, facts))
        reach("aside.marked")
        refresh_metadata(files, folder, passphrase, Leaving(files=ids, points=tuple(sorted(numbers))))
        reach("aside.announced")
        for name in going:
            files.rename(folder / name, folder / free_damaged_name(files, folder, name))
            reach("aside.renamed")
        refresh_metadata(files, folder, passphrase)
    finally:
        lock.close()


def _with_missing(health: ChainHealth, facts: Sequence[PointFacts]) -> ChainHealth:
    marks = {mark.number: mark for mark in health.points}
    for fact in facts:
        marks[fact.number] = PointMark(
            number=fact.number,
            point_id=fact.point_id,
            machine=fact.machine,
            state=Health.MISSING,
            reason="its file, or one that it continues, cannot be read and was set aside",
        )
    return ChainHealth(files=health.files, points=tuple(marks[number] for number in sorted(marks)))
