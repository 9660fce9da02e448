"""What the configuration says of repositories, and what it may not say of one."""

from pathlib import Path
from typing import Final

import msgspec

from holdfast.errors import ConfigurationInvalid
from holdfast.model.ids import RepositoryName
from holdfast.planning.clock_jump import AHEAD_DAYS_DEFAULT
from workers.config_checks import check_tasks
from workers.cron import check_cron
from workers.mover_settings import (
    CONNECTIONS_DEFAULT,
    MOVER_DEFAULTS,
    PATIENCE_MAX_S,
    MoverPlace,
    check_connections,
    check_mover,
    check_patience,
    check_without_mover,
)
from workers.throttling_settings import check_limit

_DAYS_MAX: Final = 3650


class RepositorySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ``[[repositories]]`` table: a folder that holds restore points."""

    name: RepositoryName
    """How jobs and commands refer to it."""
    path: Path
    """Folder of the repository, on its worker's host; without ``mover`` on the proxies under the same path, too."""
    mover: str = ""
    """Address ``host:port`` at which the data mover of its worker listens and proxies reach it. Empty: proxies write
    and read the files themselves. Beyond this host the movers need certificates, see ``[mover]``."""
    mover_listen: str = ""
    """Address ``host:port`` at which the data mover listens when that is another one: behind port forwarding or address
    translation. Empty: that of ``mover``."""
    mover_patience: int = PATIENCE_MAX_S
    """Seconds for which proxies dial its mover when the line is cut, 10 to 1800; then the session asks who serves the
    repository now. With several gateways a minute or two is enough."""
    mover_connections: int = CONNECTIONS_DEFAULT
    """Connections that a proxy keeps to its mover for each disk, 1 to 100. On a long line it keeps eight for every five
    of them, 100 at most; 1 stays one."""
    tasks: int = 4
    """Disks moved to and from it at once, over all proxies, 1 to 64."""
    proxies: tuple[str, ...] = ()
    """Proxies that are close to it: taken before others by jobs that have a choice, as long as they can do the work."""
    read_limit: int = 0
    """Bytes per second of all restores and scrubs that read it together, at least 65536; 0: as fast as they can."""
    write_limit: int = 0
    """Bytes per second of all backups that write to it together, at least 65536; 0: as fast as they can."""
    scrub: str | None = None
    """When stored bytes are read again, the oldest first, as five cron fields; without it only when asked to. See
    `holdfast schedule apply`."""
    scrub_days: int = 30
    """Within how many days a scrub reads every stored byte again, 1 to 3650."""
    health_check: str | None = None
    """When the newest point of each machine is read back whole, as five cron fields."""
    archives: str | None = None
    """When archives that have expired are removed, as five cron fields; without it only when asked to."""
    clock_days: int = AHEAD_DAYS_DEFAULT
    """Days the clock may be ahead of its last use, 1 to 3650, before retention asks: `holdfast retention clock`."""
    copies: tuple[RepositoryName, ...] = ()
    """Other repositories that its worker reaches and that may hold the same bytes: lost ones are looked for there."""

    @property
    def mover_place(self) -> MoverPlace | None:
        """Return where its data mover is, None when it has none. Raises `ConfigurationInvalid`."""
        return MoverPlace.parse(self.mover, self.mover_listen) if self.mover else None


def check_repository(repository: RepositorySettings, *, has_certificate: bool) -> None:
    """Raise `ConfigurationInvalid` for what a table says and cannot mean; ``has_certificate``: this worker's mover."""
    check_tasks(f"tasks of repository {repository.name}", repository.tasks)
    _check_mover(repository, has_certificate=has_certificate)
    _check_limits(repository)
    _check_times(repository)
    if repository.name in repository.copies:
        raise ConfigurationInvalid(f"repository {repository.name} is named as its own copy")


def _check_mover(repository: RepositorySettings, *, has_certificate: bool) -> None:
    if repository.mover_place is None:
        check_without_mover(repository.name, {key: getattr(repository, key) for key in MOVER_DEFAULTS})
        return
    check_mover(repository.name, repository.mover_place, has_certificate=has_certificate)
    check_patience(repository.name, repository.mover_patience)
    check_connections(repository.name, repository.mover_connections)


def _check_limits(repository: RepositorySettings) -> None:
    for key, limit in (("read_limit", repository.read_limit), ("write_limit", repository.write_limit)):
        if limit:
            check_limit(f"{key} of repository {repository.name}", limit)


def _check_times(repository: RepositorySettings) -> None:
    check_cron(f"scrub of repository {repository.name}", repository.scrub)
    check_cron(f"health_check of repository {repository.name}", repository.health_check)
    check_cron(f"archives of repository {repository.name}", repository.archives)
    for key, days in (("scrub_days", repository.scrub_days), ("clock_days", repository.clock_days)):
        if not 1 <= days <= _DAYS_MAX:
            hint = f"Give a number from 1 to {_DAYS_MAX}."
            raise ConfigurationInvalid(f"{key} of repository {repository.name} is {days}", hint=hint)
