"""Task queues and workflow ids: plain strings, built in one place so that client and worker cannot disagree.

A workflow id is derived from what the workflow protects, so that Temporal itself refuses a second start.
"""

from holdfast.model.ids import JobName, MachineId, ProviderName, RepositoryName, SessionId, folder_name
from holdfast.model.tags import session_tag

CONTROL = "control"
"""Workflows and the catalog."""
MACHINE_UPKEEP = "upkeep-machine/"
"""What the workflow ids of the upkeep of machines' chains begin with."""


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


def fresh_queue(repository: RepositoryName) -> str:
    """Return the queue of what follows a new point of a repository; no backup waits behind hours of other reading."""
    return f"repository.{repository}.fresh"


def chain_queue(repository: RepositoryName) -> str:
    """Return the queue of the work that changes chains of a repository; it never waits behind one that only reads."""
    return f"repository.{repository}.chains"


def backup_id(job: JobName) -> str:
    """Return the workflow id of a job's session; one at a time for each job."""
    return f"backup/{job}"


def quick_id(job: JobName) -> str:
    """Return the workflow id of a quick backup into a job; one at a time for each job, beside its sessions."""
    return f"quick/{job}"


def machine_backup_id(repository: RepositoryName, machine_id: MachineId, name: str) -> str:
    """Return the workflow id of a machine's backup; one at a time for each machine and repository."""
    return f"backup-machine/{repository}/{folder_name(name, machine_id)}"


def restore_id(session_id: SessionId) -> str:
    """Return the workflow id of a restore; any number may run."""
    return f"restore/{session_id}"


def verify_id(repository: RepositoryName) -> str:
    """Return the workflow id of a verification; one at a time for each repository."""
    return f"verify/{repository}"


def machine_upkeep_id(repository: RepositoryName, machine_id: MachineId, name: str) -> str:
    """Return the workflow id of the upkeep of a machine's chains; one at a time for each machine and repository."""
    return folder_upkeep_id(repository, folder_name(name, machine_id))


def folder_upkeep_id(repository: RepositoryName, folder: str) -> str:
    """Return the same of the machine whose chains are in a folder."""
    return f"{MACHINE_UPKEEP}{repository}/{folder}"


def retention_id(job: JobName) -> str:
    """Return the workflow id of a retention session; one at a time for each job."""
    return f"retention/{job}"


def archives_id(repository: RepositoryName) -> str:
    """Return the workflow id of a session that removes expired archives; one at a time for each repository."""
    return f"archives/{repository}"


def health_id(repository: RepositoryName) -> str:
    """Return the workflow id of a health check, scrub or repair; one at a time for each repository."""
    return f"health/{repository}"


def chains_id(repository: RepositoryName, folder: str) -> str:
    """Return the workflow id of what moves or maps the chains in a machine's folder; one at a time for each."""
    return f"chains/{repository}/{folder}"


def sweep_id(provider: ProviderName) -> str:
    """Return the workflow id of a sweep; one at a time for each provider."""
    return f"sweep/{provider}"


def snapshot_tag(session_id: SessionId) -> str:
    """Return the tag that everything a session creates at a provider carries."""
    return session_tag(session_id)
