"""What workflows that move or hold chains are started with. Fields are only ever added, with defaults."""

from enum import StrEnum

import msgspec

from holdfast.model.ids import CredentialName, JobName, MachineId, ProviderName, RepositoryName, SessionId


class ChainTask(StrEnum):
    """What becomes of the chains of a machine."""

    MAP = "map"
    """They go on as those of another machine."""
    RENAME = "rename"
    """Their machine and its folder get another name."""
    MOVE = "move"
    """They go to another repository."""


class MoveRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A change of the place or owner of a machine's chains. ``session_id`` empty: derived from the run."""

    task: ChainTask
    repository: RepositoryName
    folder: str
    """Of the machine, in the repository."""
    machine_id: MachineId
    machine_name: str
    """Whose chains they are until now."""
    new_id: MachineId = MachineId("")
    """Of a map: id or name of the machine, as the provider knows it; empty leaves it."""
    new_name: str = ""
    """Of a map: shown until the provider says; of a rename: the name."""
    to: RepositoryName = RepositoryName("")
    """Of a move: the other repository."""
    provider: ProviderName = ProviderName("")
    """Of a map: where the machine is looked up; empty takes the id as it is."""
    proxy: str = ""
    credentials: tuple[CredentialName, ...] = ()
    """Of the chains that are encrypted."""
    unit_size: int | None = None
    """Of a map: that of the job which goes on with the chain."""
    job_credential: CredentialName | None = None
    session_id: SessionId = SessionId("")
    job: JobName = JobName("chains")


class HoldRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The hold of a machine, so that no session of it begins."""

    repository: RepositoryName
    machine_id: MachineId
    machine_name: str
