"""Task queues and workflow ids: plain strings, built in one place so that client and worker cannot disagree.

A workflow id is derived from what the workflow protects, so that Temporal itself refuses a second start.
"""

from holdfast.model.ids import JobName, MachineId, ProviderName, RepositoryName, SessionId, folder_name
from holdfast.model.tags import session_tag

CONTROL = "control"
"""Workflows and the catalog."""


def proxy_queue(name: str) -> str:
    """Return the queue of the proxy called ``name``: inventory, snapshots, restore targets."""
    return f"proxy.{name}"


def transfer_queue(proxy: str) -> str:
    """Return the queue of a proxy's transfers, whose slots are its task limit.

    It is a queue of its own, so that removing a snapshot never waits behind hours of copying.
    """
    return f"proxy.{proxy}.transfer"


def look_queue(proxy: str) -> str:
    """Return the queue on which a proxy says what it reaches; it answers at once, however busy it is."""
    return f"proxy.{proxy}.look"


def repository_queue(name: RepositoryName) -> str:
    """Return the queue of a repository's worker: points, extents."""
    return f"repository.{name}"


def upkeep_queue(repository: RepositoryName) -> str:
    """Return the queue of a repository's long work, such as verification; points never wait behind it."""
    return f"repository.{repository}.upkeep"


def backup_id(job: JobName) -> str:
    """Return the workflow id of a job's session; one at a time for each job."""
    return f"backup/{job}"


def machine_backup_id(repository: RepositoryName, machine_id: MachineId, name: str) -> str:
    """Return the workflow id of a machine's backup; one at a time for each machine and repository."""
    return f"backup-machine/{repository}/{folder_name(name, machine_id)}"


def restore_id(session_id: SessionId) -> str:
    """Return the workflow id of a restore; any number may run."""
    return f"restore/{session_id}"


def verify_id(repository: RepositoryName) -> str:
    """Return the workflow id of a verification; one at a time for each repository."""
    return f"verify/{repository}"


def sweep_id(provider: ProviderName) -> str:
    """Return the workflow id of a sweep; one at a time for each provider."""
    return f"sweep/{provider}"


def snapshot_tag(session_id: SessionId) -> str:
    """Return the tag that everything a session creates at a provider carries."""
    return session_tag(session_id)
