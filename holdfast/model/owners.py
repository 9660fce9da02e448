"""Whose chains are whose: what a row of chains in a repository is kept for."""

from enum import StrEnum

import msgspec

from holdfast.model.ids import JobName, MachineId, folder_name

_JOB = "job/"
"""No provider has a slash in the id of a machine."""


class ChainLayout(StrEnum):
    """How many chains a job keeps."""

    PER_MACHINE = "per-machine"
    """Each machine has its own."""
    PER_JOB = "per-job"
    """All machines are in one; a file holds the points of a session."""


class ChainOwner(msgspec.Struct, frozen=True, kw_only=True):
    """What a row of chains belongs to: a machine, or a job that keeps all its machines in one chain.

    Who has the same id has the same chains, whatever name it goes by.
    """

    owner_id: str
    name: str

    @classmethod
    def of_machine(cls, machine_id: MachineId, name: str) -> "ChainOwner":
        """Return the owner of chains that hold one machine."""
        return cls(owner_id=machine_id, name=name)

    @classmethod
    def of_job(cls, job: JobName) -> "ChainOwner":
        """Return the owner of chains that hold all machines of a job."""
        return cls(owner_id=f"{_JOB}{job}", name=job)


def is_job_folder(folder: str) -> bool:
    """Return whether a folder is of a job that keeps all its machines in one chain, as far as its name tells.

    It does not of a job whose name a folder cannot have, as with capitals.
    """
    owner = ChainOwner.of_job(JobName(folder.rpartition("-")[0]))
    return folder == folder_name(owner.name, owner.owner_id)
