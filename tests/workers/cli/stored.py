"""Points in the repository of a place, made by the engine alone."""

from collections.abc import Sequence

from holdfast.model.ids import MachineId
from holdfast.model.machine_files import MachineFile
from holdfast.model.points import PointSummary
from tests.holdfast.storage import driving
from tests.workers.cli.place import PASSPHRASE, Place


def back_up(
    place: Place, number: int, content: bytes, *, encrypted: bool = False, files: Sequence[MachineFile] = ()
) -> PointSummary:
    """Make a point of the machine ``web 01``."""
    return driving.back_up(place.repository, content, number, PASSPHRASE if encrypted else None, files)


def damage(place: Place, point: PointSummary, offset: int) -> None:
    """Turn one byte of a point's file over."""
    path = place.repository.chain_folder(point.chain) / point.file
    content = bytearray(path.read_bytes())
    content[offset] ^= 0xFF
    path.write_bytes(content)


def back_up_other(place: Place, number: int, machine: str, passphrase: str | None = None) -> PointSummary:
    """Make a point of another machine, whose name is its id as well."""
    return driving.back_up(
        place.repository, b"c" * 200_704, number, passphrase, machine_id=MachineId(machine), name=machine
    )
