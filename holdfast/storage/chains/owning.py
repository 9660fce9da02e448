"""Whose chain it is: the machine that its points name, or the one that it was given to since.

The points of a chain all name the machine of the first one, because the numbers of disks hang on that id. Whoever shows
points to people or to a provider sees them through the owner.
"""

from pathlib import Path

import msgspec

from holdfast.errors import ChainBroken, DataError, RequestInvalid
from holdfast.formats.chain_keep import NotedOwner
from holdfast.formats.contents import Point
from holdfast.formats.keys import ChainKeys
from holdfast.model.ids import folder_name, is_machine_folder
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chains.chain import Chain
from holdfast.storage.chains.keeping import read_notes, write_owner
from holdfast.storage.files.atomic import Files


def owner_of(files: Files, folder: Path, keys: ChainKeys) -> NotedOwner | None:
    """Return who owns a chain, None for the machine its points name. Raises `FileDamaged`.

    On a shelf, outside of the folder of any machine, what was last noted counts.
    """
    owner = read_notes(files, folder, keys).owner
    if owner is msgspec.UNSET:
        return None
    machine_folder = folder.parent.name
    return owner if machine_folder == owner.folder or not is_machine_folder(machine_folder) else None


def shown_owner(files: Files, chain: Chain) -> NotedOwner | None:
    """Return the same, for lists: a note that is damaged hides no point."""
    try:
        return owner_of(files, chain.folder, chain.files[0].keys) if chain.files else None
    except DataError:
        return None


def seen_by(point: Point, owner: NotedOwner | None) -> Point:
    """Return a point as one of the machine that owns its chain. It leads to no disks: the chain knows it as it was."""
    if owner is None:
        return point
    name = owner.machine_name if point.number <= owner.named else point.machine.name
    machine = msgspec.structs.replace(point.machine, machine_id=owner.machine_id, name=name)
    return msgspec.structs.replace(point, machine=machine)


def newest_of(
    files: Files, chain: Chain, machine_id: str, *, is_shared: bool = False
) -> tuple[ChainFile, Point] | None:
    """Return the newest complete point of a machine, as the chain knows it, or None.

    A chain that the machines of a job share is given to nobody else. Of any other it raises `ChainBroken` when it
    is another machine's and does not say how it came here: a full would begin.
    """
    if is_shared:
        return chain.newest(machine_id)
    newest = chain.newest()
    if newest is None:
        return None
    owner = owner_of(files, chain.folder, newest[0].keys)
    if owner is not None:
        return newest if owner.machine_id == machine_id else None
    named = newest[1].machine
    tail = folder_name("", named.machine_id)[-9:]
    if named.machine_id != machine_id and not chain.folder.parent.name.endswith(tail):
        raise ChainBroken(
            f"chain {chain.folder.name} in {chain.folder.parent.name} is of machine {named.machine_id}",
            hint="Give it to the machine with `holdfast chain map`, or move it out of the folder.",
        )
    return chain.newest(machine_id)


def check_own_chain(chain: Chain, owner: NotedOwner | None) -> None:
    """Raise `RequestInvalid` for a chain that the machines of a job share, also while it holds but one of them."""
    machines = sorted({point.machine.machine_id for _, point in chain.points()})
    if len(machines) > 1:
        raise RequestInvalid(f"{chain.folder} holds points of several machines: {', '.join(machines)}")
    own = [folder_name("", machine)[-9:] for machine in machines]
    if (
        owner is None
        and is_machine_folder(chain.folder.parent.name)
        and not chain.folder.parent.name.endswith(tuple(own))
    ):
        raise RequestInvalid(
            f"chain {chain.folder.name} belongs to all machines of a job, so it is nobody's to give away"
        )


def why_compared(owner: NotedOwner | None, parent: int) -> str:
    """Return why a new point is compared with its parent instead of asking what changed; empty when it need not be."""
    if owner is None or parent > owner.mapped:
        return ""
    return f"the chain was mapped to machine {owner.machine_id} behind point {owner.mapped}"


def take_owner(files: Files, chain: Chain, target: Path) -> None:
    """Let a chain that takes points over have the owner of the one they come from. The caller has the lock of both."""
    keys = chain.files[0].keys
    owner = owner_of(files, chain.folder, keys)
    if owner is not None:
        write_owner(files, target, keys, owner)
