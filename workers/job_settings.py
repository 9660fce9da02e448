"""The ``[[jobs]]`` tables of the configuration. What is wrong with them is found by `workers.config`."""

from typing import Final, Literal

import msgspec

from holdfast.formats.magic import UNIT_SIZE_DEFAULT
from holdfast.model.compression import Compression
from holdfast.model.health import BrokenChain
from holdfast.model.ids import CredentialName, JobName, ProviderName, RepositoryName
from holdfast.model.machine import Quiesce
from holdfast.model.owners import ChainLayout
from holdfast.model.retention import Method
from workers.retention_settings import RetentionSettings

AD_HOC: Final = JobName("adhoc")
"""Job name of sessions of machines that were named on the spot."""
ARCHIVE: Final = JobName("archive")
"""Job name of sessions that make archives."""


class JobSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ``[[jobs]]`` table: which machines are backed up where, how and when."""

    name: JobName
    """How commands and sessions refer to it; neither ``adhoc`` nor ``archive``, which are no jobs."""
    provider: ProviderName
    """Where the machines are."""
    repository: RepositoryName
    """Where the restore points go."""
    proxy: str = ""
    """Which proxy reads the disks, when it is always the same."""
    proxies: tuple[str, ...] = ()
    """Which proxies may read the disks, when there is a choice: for each machine the one with the best way to its disks
    and a free slot. With neither ``proxy`` nor ``proxies`` any of the configuration."""
    machines: tuple[str, ...] = ()
    """Names or ids, or where the provider has them groups: ``folder:``, ``cluster:``, ``pool:``, ``datastore:`` or
    ``tag:`` and a path or name. Empty for all machines of the provider."""
    excluded: tuple[str, ...] = ()
    """What is left out, in the same words."""
    excluded_disks: tuple[str, ...] = ()
    """Disks that are left out, as ``machine/key`` with the wildcards of a shell: ``web01/2001``, ``*/scratch``."""
    machines_at_once: int = 2
    """Machines worked on at once, 1 to 64."""
    compression: Compression = Compression.ZSTD_1
    """How strongly data is compressed."""
    unit_size: int = UNIT_SIZE_DEFAULT
    """Bytes that are compressed and encrypted together: 262144, 524288, 1048576 or 4194304."""
    credential: CredentialName | None = None
    """Name of the credential whose passphrase encrypts; without it data is not encrypted."""
    quiesce: Quiesce = Quiesce.NEVER
    """Whether guests come to rest for their snapshot: `never`, `try` or `require`."""
    sample_mib: int = 64
    """MiB of each disk that are compared with the earlier point although change tracking says that nothing changed
    there, another part each run; 0 believes it."""
    exclude_swap: bool = True
    """Leave out swap space, swap files and page files of guests; they read as zeros after a restore."""
    exclude_deleted: bool = True
    """Leave out blocks that no file of a guest has, of file systems that are in order and not in use."""
    exclude_files: tuple[str, ...] = ()
    """Files and folders of guests that are left out of such file systems, as masks: ``/var/tmp/*``,
    ``C:\\pagefile.sys``, ``*.iso``."""
    chain: ChainLayout = ChainLayout.PER_MACHINE
    """Whether each machine has a chain of its own, `per-machine`, or all are in one, `per-job`; see
    docs/methods.md."""
    method: Method = Method.FOREVER
    """How points depend on each other: `forever`, `forward` or `reverse`; see docs/methods.md."""
    active_full: str | None = None
    """On which days everything is read anew into a new chain: weekdays such as ``saturday`` or ``sunday, wednesday``,
    or a day of the month such as ``first sunday``. Without a run of ``schedule`` on such a day there is one more, at
    its first time of a day."""
    synthetic_full: str | None = None
    """On which days the repository makes a full of what it has, in the same words, and with a run as above."""
    compact_full: str | None = None
    """On which days a full that has become loose is written anew, in the same words."""
    verify: bool | Literal["increments"] = "increments"
    """Read new points back before the session ends: all that a point needs (true), of increments what the run has
    stored and the maps (`increments`), or nothing (false)."""
    on_broken_chain: BrokenChain = BrokenChain.FAIL
    """When the chain of a machine is damaged beyond repair: the machine fails, begins a new chain with a full, or asks
    and waits for `holdfast health decide`: `fail`, `full` or `ask`."""
    schedule: str | None = None
    """When the job runs, as five cron fields, of which a day has to fit all; without it only when asked to. See
    `holdfast schedule apply`."""
    timezone: str = "UTC"
    """Time zone of ``schedule``, such as ``Europe/Zurich``."""
    retention: RetentionSettings | None = None
    """What stays of each machine's points; without it everything does."""
