"""Restore points as the catalog remembers them."""

from datetime import datetime
from enum import StrEnum

import msgspec

from holdfast.model.ids import ChainId, FileId, MachineId, PointId, RepositoryName, SessionId


class PointKind(StrEnum):
    """The kind of the file a point is in."""

    FULL = "full"
    INCREMENT = "increment"
    ROLLBACK = "rollback"


class PointState(StrEnum):
    """What was last found out about a point."""

    USABLE = "usable"
    DAMAGED = "damaged"
    """A verification found bytes that do not match their digest."""
    MISSING = "missing"
    """The repository did not hold it when it was last looked through."""


class RestorePointRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One complete restore point of a machine; points that are not complete are never recorded."""

    repository: RepositoryName
    chain: str
    """Folder of the chain, relative to the repository."""
    chain_id: ChainId
    number: int
    """Unique in the chain, growing."""
    point_id: PointId
    file_id: FileId
    file_name: str
    generation: int
    """Number of the file's commit the facts were read from."""
    root: str
    """Point root in hexadecimal digits."""
    machine_id: MachineId
    machine_name: str
    kind: PointKind
    created: datetime
    completed: datetime
    size_bytes: int
    """Sum of the sizes of the machine's disks."""
    stored_bytes: int
    """Added to the repository by this point, headers and alignment included."""
    session_id: SessionId
    """The session that made the point; unknown here when the repository comes from elsewhere."""
    state: PointState = PointState.USABLE


class ChainMark(msgspec.Struct, frozen=True, kw_only=True):
    """The newest state of a chain ever told to the catalog: one that shows less was set back.

    The mark stays when points are forgotten and never goes back.
    """

    repository: RepositoryName
    chain_id: ChainId
    number: int
    """Of the newest point."""
    point_id: PointId
    file_id: FileId
    generation: int
    root: str
    recorded: datetime
