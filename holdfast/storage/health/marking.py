"""Writes down what a look at a chain has shown: which units and points are damaged, and what was read when."""

from datetime import datetime

import msgspec

from holdfast.errors import DataError
from holdfast.formats.chain_health import ChainHealth, FileHealth
from holdfast.model.ids import DiskKey
from holdfast.model.points import Damage
from holdfast.storage.chains.chain import Chain
from holdfast.storage.chains.metadata import keys_of, read_metadata
from holdfast.storage.files.atomic import Files
from holdfast.storage.health.health_file import (
    PointFacts,
    bad_units,
    change_health,
    read_health,
    with_all_read,
    with_damage,
    with_points,
    without_gone,
)
from holdfast.storage.health.verifier import Findings, assess_damage


def mark_checked(
    files: Files, chain: Chain, found: Findings, looked_at: set[int] | None = None, read: datetime | None = None
) -> ChainHealth:
    """Write down what a check of points has shown; ``looked_at`` are their numbers, None stands for all.

    ``read`` is given when every byte of the chain was read, and when. Raises `ChainBusy`.
    """
    facts = facts_of(files, chain)
    numbers = {fact.number for fact in facts} if looked_at is None else looked_at

    def marked(health: ChainHealth) -> ChainHealth:
        health = without_gone(health, chain)
        if read is not None:
            health = with_all_read(files, _without_units(health), chain, read)
        for file_id, units in found.units.items():
            health = with_damage(health, file_id, units)
        return with_points(health, facts, numbers, found.points)

    return change_health(files, chain.folder, marked)


def facts_of(files: Files, chain: Chain) -> list[PointFacts]:
    """Return the complete points of a chain, also those whose files cannot be opened, as far as the metadata knows."""
    facts = {
        point.number: PointFacts(number=point.number, point_id=point.id, machine=point.machine.name)
        for _, point in chain.points()
        if point.complete
    }
    try:
        metadata = read_metadata(files, chain.folder, keys_of(files, chain, None))
    except DataError:
        metadata = None  # the files that can be opened are then all there is to go by
    for listed in metadata.points if metadata is not None else ():
        if listed.complete and listed.number not in facts:
            facts[listed.number] = PointFacts(number=listed.number, point_id=listed.id, machine=listed.machine_name)
    return list(facts.values())


def _without_units(health: ChainHealth) -> ChainHealth:
    """Return the same without damaged units, all of which were just read again."""
    for known in health.files:
        health = health.with_file(FileHealth(file=known.file, reads=known.reads, problem=known.problem))
    return health


def assess_chain(files: Files, name: str, chain: Chain) -> tuple[list[Damage], ChainHealth]:
    """Return what the damage that is known takes of a chain's points, and mark these in its health file.

    ``name`` is that of the chain, relative to its repository.
    """
    found, health = Findings(), read_health(files, chain.folder)
    report = assess_damage(chain, bad_units(health), found=found)
    damages = [msgspec.structs.replace(damage, chain=name) for damage in report.damages]
    names = {file.contents.file: file.path.name for file in chain.files}
    damages += [
        chain_damage(name, known.problem, names[known.file])
        for known in health.files
        if known.problem and known.file in names
    ]
    return damages, mark_checked(files, chain, found)


def chain_damage(chain: str, reason: str, file: str = "") -> Damage:
    """Return the damage of a chain as a whole, or of a file of it."""
    return Damage(chain=chain, point=0, machine="", disk=DiskKey(""), offset=0, length=0, file=file, reason=reason)
