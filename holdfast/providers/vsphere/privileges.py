"""The least role of an account: which privilege is for what, on which kind of object.

Pure: what a vCenter answers goes in, what is missing comes out, feature by feature.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Final

import msgspec


class Feature(StrEnum):
    """What an account may be wanted for."""

    BACKUP = "backup"
    TRACKING = "change tracking"
    RESTORE_NEW = "restore to a new machine"
    RESTORE_REPLACE = "restore over a machine"
    ROLLBACK = "quick rollback"
    HOT_ADD = "hot-add, on the machine that is the proxy"
    LEASE = "leases"


class Place(StrEnum):
    """The kinds of objects that privileges are asked for on."""

    MACHINE = "machine"
    FOLDER = "machine folder"
    POOL = "resource pool"
    DATASTORE = "datastore"
    NETWORK = "network"


class Privilege(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the least role."""

    name: str
    """Id, as the API has it."""
    purpose: str
    feature: Feature
    place: Place


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a vCenter says of one object."""

    place: Place
    name: str
    """How people know the object."""
    granted: frozenset[str]
    """Ids of privileges that the account has on it."""


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """A privilege that an account lacks."""

    privilege: Privilege
    on: tuple[str, ...]
    """Names of the objects that lack it."""
    asked: int
    """How many objects of the kind were asked about."""

    @property
    def is_everywhere(self) -> bool:
        """Return whether no object at all has the privilege."""
        return len(self.on) == self.asked


_WORDS: Final = "VirtualMachine."
_LINES: Final[tuple[tuple[Feature, Place, tuple[tuple[str, str], ...]], ...]] = (
    (
        Feature.BACKUP,
        Place.MACHINE,
        (
            (f"{_WORDS}State.CreateSnapshot", "freeze the machine"),
            (f"{_WORDS}State.RemoveSnapshot", "remove the snapshot and fold its data into the disks"),
            (f"{_WORDS}Provisioning.DiskRandomRead", "read disks, and ask what changed on them"),
        ),
    ),
    (
        Feature.BACKUP,
        Place.DATASTORE,
        (("Datastore.Browse", "read disks and files of machines from the vCenter's file server"),),
    ),
    (
        Feature.TRACKING,
        Place.MACHINE,
        ((f"{_WORDS}Config.ChangeTracking", "switch change tracking on where it is off"),),
    ),
    (
        Feature.RESTORE_NEW,
        Place.FOLDER,
        (
            (f"{_WORDS}Inventory.Create", "make the machine that is restored into"),
            (f"{_WORDS}Inventory.Delete", "remove the machine of a restore that was given up"),
            (f"{_WORDS}Config.AddNewDisk", "make its disks"),
            (f"{_WORDS}Config.AddRemoveDevice", "add controllers and network cards"),
            (f"{_WORDS}Config.AdvancedConfig", "note on the machine which restore it belongs to"),
            (f"{_WORDS}Config.Rename", "give the machine its name when everything is restored"),
            (f"{_WORDS}Provisioning.DiskRandomAccess", "write disks"),
            (f"{_WORDS}Interact.PowerOn", "start the machine if that is asked for"),
        ),
    ),
    (Feature.RESTORE_NEW, Place.POOL, (("Resource.AssignVMToPool", "put the machine into a pool"),)),
    (
        Feature.RESTORE_NEW,
        Place.DATASTORE,
        (
            ("Datastore.AllocateSpace", "make disks on the datastore"),
            ("Datastore.FileManagement", "give the machine the nvram it had"),
        ),
    ),
    (Feature.RESTORE_NEW, Place.NETWORK, (("Network.Assign", "connect the machine's network cards"),)),
    (
        Feature.RESTORE_REPLACE,
        Place.MACHINE,
        (
            (f"{_WORDS}Config.AddExistingDisk", "hand the restored disks over"),
            (f"{_WORDS}Config.RemoveDisk", "take the replaced disks off"),
            (f"{_WORDS}Config.AdvancedConfig", "note on the machine that its disks were replaced"),
        ),
    ),
    (
        Feature.RESTORE_REPLACE,
        Place.DATASTORE,
        (("Datastore.FileManagement", "delete the files of the replaced disks"),),
    ),
    (
        Feature.ROLLBACK,
        Place.MACHINE,
        (
            (f"{_WORDS}State.CreateSnapshot", "keep what the disks hold before they are written to"),
            (f"{_WORDS}State.RevertToSnapshot", "give that back when the rollback is given up"),
            (f"{_WORDS}State.RemoveSnapshot", "remove what was kept when the rollback is complete"),
            (f"{_WORDS}Provisioning.DiskRandomRead", "ask what changed since the point"),
            (f"{_WORDS}Provisioning.DiskRandomAccess", "write what differs"),
            (f"{_WORDS}Config.AdvancedConfig", "note on the machine that there is no way back"),
            (f"{_WORDS}Config.Settings", "mark the machine, so that a start in the middle shows"),
            (f"{_WORDS}Config.ChangeTracking", "begin change tracking anew"),
        ),
    ),
    (
        Feature.HOT_ADD,
        Place.MACHINE,
        (
            (f"{_WORDS}Config.AddExistingDisk", "attach disks to the proxy: frozen ones, and those of restores"),
            (f"{_WORDS}Config.RemoveDisk", "detach them"),
            (f"{_WORDS}Config.AdvancedConfig", "note on the proxy whose disks are attached to it"),
        ),
    ),
    (Feature.LEASE, Place.MACHINE, (("VApp.Export", "read disks as streams, where no better way works"),)),
)

LEAST_ROLE: Final[tuple[Privilege, ...]] = tuple(
    Privilege(name=name, purpose=purpose, feature=feature, place=place)
    for feature, place, lines in _LINES
    for name, purpose in lines
)
"""Every privilege that is ever used, by feature. Quiescing a guest needs no more than a snapshot does."""


def names_for(place: Place, role: Sequence[Privilege] = LEAST_ROLE) -> tuple[str, ...]:
    """Return the ids to ask for on objects of a kind, each once."""
    return tuple(dict.fromkeys(one.name for one in role if one.place is place))


def missing(answers: Iterable[Answer], role: Sequence[Privilege] = LEAST_ROLE) -> Iterator[Missing]:
    """Yield what an account lacks, in the order of the role. A kind without any object is not judged."""
    by_place: dict[Place, list[Answer]] = {}
    for answer in answers:
        by_place.setdefault(answer.place, []).append(answer)
    for privilege in role:
        asked = by_place.get(privilege.place, [])
        lacking = tuple(one.name for one in asked if privilege.name not in one.granted)
        if lacking:
            yield Missing(privilege=privilege, on=lacking, asked=len(asked))


def by_feature(found: Iterable[Missing]) -> Mapping[Feature, tuple[Missing, ...]]:
    """Return what is missing for each feature; one that lacks nothing has an empty entry."""
    listed: dict[Feature, list[Missing]] = {feature: [] for feature in Feature}
    for one in found:
        listed[one.privilege.feature].append(one)
    return {feature: tuple(entries) for feature, entries in listed.items()}
