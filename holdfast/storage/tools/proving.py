"""Makes the statement of a proof from a chain, and compares a chain with one.

Both read every stored byte of the point through `holdfast.storage.health.verifier`, which comes to the roots again
from the pieces. A merge moves what a point holds into other files, so chain files may change while roots never do.
"""

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import msgspec

from holdfast.formats.contents import Point
from holdfast.formats.proof import (
    ProvedDisk,
    ProvedFile,
    ProvedMachineFile,
    ProvedPoint,
    ProvedReading,
    Statement,
)
from holdfast.model.points import VerifyReport
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chains.chain import Chain
from holdfast.storage.health.verifier import verify_chain
from holdfast.storage.methods.upkeep import needed_files

GOOD: Final = "good"
DAMAGED: Final = "damaged"
_READ_BYTES: Final = 4 << 20

Report = Callable[[int], None]
"""Gets the stored bytes read so far; what it raises ends the reading."""


class ProofCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What a chain says to a statement."""

    contradictions: tuple[str, ...]
    """What is not as it was stated, in words; empty when the point is what it was."""
    reading: VerifyReport
    files_as_stated: tuple[str, ...]
    """Chain files whose bytes are those of the statement."""
    files_changed: tuple[str, ...]
    """Chain files that were changed since, as a merge does, or that are gone."""


def make_statement(chain: Chain, number: int, report: Report, made: datetime, software: str) -> Statement:
    """Read a complete point and state what it holds, damaged or not. Raises `PointNotFound`, `ChainBroken`."""
    _, point = chain.point(number)
    files = [_proved_file(file) for file in files_of_point(chain, point)]
    reading = verify_chain(chain, report, numbers=[number])
    return Statement(
        made=made,
        software=software,
        chain=chain.files[0].contents.chain,
        cipher=chain.files[0].keys.cipher.name.lower().replace("_", "-"),
        point=_proved_point(point),
        files=tuple(files),
        reading=_proved_reading(reading),
    )


def check_statement(chain: Chain, statement: Statement, report: Report) -> ProofCheck:
    """Read the point of a statement again and compare. Raises the errors of the chain's files."""
    said = statement.point
    contradictions, reading = _contradictions(chain, statement), VerifyReport(chains=0)
    if not contradictions:
        _, point = chain.point(said.number)
        contradictions = _differences(said, _proved_point(point))
        reading = verify_chain(chain, report, numbers=[said.number])
        contradictions += [f"disk {damage.disk or '-'}: {damage.reason}" for damage in reading.damages]
    same = {(found.file, found.sha256) for found in map(_proved_file, chain.files)}
    return ProofCheck(
        contradictions=tuple(contradictions),
        reading=reading,
        files_as_stated=tuple(file.name for file in statement.files if (file.file, file.sha256) in same),
        files_changed=tuple(file.name for file in statement.files if (file.file, file.sha256) not in same),
    )


def _contradictions(chain: Chain, statement: Statement) -> list[str]:
    """Return in words why the chain cannot be compared with a statement at all."""
    found = chain.files[0].contents.chain
    if found != statement.chain:
        return [f"this is chain {found}, the proof is of {statement.chain}"]
    number = statement.point.number
    is_there = any(point.complete and point.number == number for _, point in chain.points())
    return [] if is_there else [f"the chain has no complete point {number}"]


def files_of_point(chain: Chain, point: Point) -> list[ChainFile]:
    """Return the files without which a point cannot be read, in the order of the chain. Raises `ChainBroken`."""
    own, _ = chain.point(point.number)
    needed = {own.contents.file} | needed_files(chain, own)
    for disk in point.disks:
        stored = chain.disk(point.number, disk.key)
        needed |= {run.file.contents.file for run in stored.runs(0, stored.pieces) if run.file is not None}
    return [file for file in chain.files if file.contents.file in needed]


def _proved_point(point: Point) -> ProvedPoint:
    assert point.root is not None, "the point is complete"
    return ProvedPoint(
        number=point.number,
        id=point.id,
        session=point.session,
        machine=point.machine.machine_id,
        machine_name=point.machine.name,
        created=point.created,
        consistency=point.consistency,
        parent_root=point.parent_root,
        root=point.root,
        disks=tuple(ProvedDisk(key=d.key, size=d.size, root=d.root or "") for d in point.disks),
        files=tuple(ProvedMachineFile(name=f.name, size=f.size, digest=f.ref.digest) for f in point.machine_files),
    )


def _proved_file(file: ChainFile) -> ProvedFile:
    hasher = hashlib.sha256()
    size = file.handle.size()
    for offset in range(0, size, _READ_BYTES):
        hasher.update(file.handle.read(offset, min(_READ_BYTES, size - offset)))
    return ProvedFile(
        name=file.path.name,
        file=file.contents.file,
        kind=file.contents.kind,
        generation=file.superblock.generation,
        key_id=file.superblock.key_id.hex(),
        size=size,
        sha256=hasher.hexdigest(),
    )


def _proved_reading(report: VerifyReport) -> ProvedReading:
    return ProvedReading(
        result=GOOD if report.is_good else DAMAGED,
        units=report.units,
        stored_bytes=report.stored_bytes,
        damages=len(report.damages) + report.unnamed_damages,
    )


def _differences(said: ProvedPoint, found: ProvedPoint) -> list[str]:
    """Return in words what of a point is not as it was stated."""
    names: Sequence[str] = ProvedPoint.__struct_fields__
    return [
        f"{name} is {getattr(found, name)!r} and not {getattr(said, name)!r}"
        for name in names
        if getattr(found, name) != getattr(said, name)
    ]
