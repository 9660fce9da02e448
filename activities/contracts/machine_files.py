"""The small files of machines, between hypervisor and restore point; served by proxies.

Their bytes go from one to the other inside the proxy: what workflows see, and histories keep, is names and sizes.
"""

import msgspec
from temporalio import activity

from holdfast.model.ids import CredentialName, MachineId, ProviderName, RepositoryName, SnapshotId, TargetId
from holdfast.model.machine_files import FileLeftOut, PlacedFiles
from holdfast.model.points import MoverAccess, OpenPoint


class CopyMachineFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Keep the files of a frozen machine in a point that has been begun."""

    provider: ProviderName
    machine_id: MachineId
    snapshot_id: SnapshotId
    repository: RepositoryName
    point: OpenPoint
    credential: CredentialName | None = None


class KeptFile(msgspec.Struct, frozen=True, kw_only=True):
    """A machine file that is durable in the repository."""

    name: str
    size_bytes: int


class MachineFilesCopied(msgspec.Struct, frozen=True, kw_only=True):
    """Which files the point has, and which it has not, and why."""

    kept: tuple[KeptFile, ...] = ()
    left_out: tuple[FileLeftOut, ...] = ()


class PlaceMachineFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Give a prepared target the files of a restore point that are of use to it."""

    provider: ProviderName
    target_id: TargetId
    repository: RepositoryName
    chain: str
    number: int
    credential: CredentialName | None = None
    mover: MoverAccess | None = None
    """Where the files are read; None when the proxy reads the chain itself."""


@activity.defn(name="files.copy")
def copy_machine_files(request: CopyMachineFiles) -> MachineFilesCopied:
    """Keep the files of a machine in a point; idempotent."""
    raise AssertionError(request)


@activity.defn(name="files.place")
def place_machine_files(request: PlaceMachineFiles) -> PlacedFiles:
    """Give a target the files of a point; idempotent."""
    raise AssertionError(request)
