"""What the configuration may not say although its type is right: values that cannot mean anything."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from holdfast.errors import ConfigurationInvalid
from holdfast.model.selection import parse_selector
from workers.credentials import NAME
from workers.job_settings import AD_HOC, ARCHIVE, JobSettings
from workers.telemetry_settings import TelemetrySettings
from workers.temporal_settings import TemporalSettings

TASKS_MAX: Final = 64
"""Most disks one proxy works on, and most machines one session works on, at once."""
CATALOG_ENGINES: Final = ("sqlite", "postgresql", "postgres")
"""Kinds of database that the address of a catalog may name."""
_RESERVED: Final = {AD_HOC: "`holdfast backup --machine`", ARCHIVE: "`holdfast archive`"}
_PORT_MAX: Final = 65535


def check_names(kind: str, names: Sequence[str]) -> None:
    """Raise `ConfigurationInvalid` for names that cannot be one, or that two tables of a kind have."""
    for index, name in enumerate(names):
        if not NAME.fullmatch(name):
            hint = "Use up to 63 letters, digits, dots, dashes and underscores, a letter or digit first."
            raise ConfigurationInvalid(f"{name!r} cannot be the name of a {kind}", hint=hint)
        if name in names[:index]:
            raise ConfigurationInvalid(f"two {kind} tables are called {name}", hint="Give one of them another name.")


def check_tasks(what: str, count: int) -> None:
    """Raise `ConfigurationInvalid` for more at once than is meant, or nothing."""
    if not 1 <= count <= TASKS_MAX:
        raise ConfigurationInvalid(f"{what} is {count}", hint=f"Give a number from 1 to {TASKS_MAX}.")


def check_paths(kind: str, places: Sequence[tuple[str, Path]]) -> None:
    """Raise `ConfigurationInvalid` for two tables of a kind, each by its name, that have one folder."""
    seen: dict[Path, str] = {}
    for name, path in places:
        other = seen.setdefault(path, name)
        if other != name:
            raise ConfigurationInvalid(f"{kind} {other} and {name} have the same path {path}")


def check_catalog(url: str) -> None:
    """Raise `ConfigurationInvalid` for an address of no kind of database; the rest is looked at when it is opened."""
    engine, separator, _ = url.partition("://")
    if not separator or engine.partition("+")[0] not in CATALOG_ENGINES:
        # Without the address itself, in which a password may stand.
        hint = "Use `sqlite:////path/of/catalog.sqlite` or `postgresql://user:password@host/database`."
        raise ConfigurationInvalid("catalog_url names no kind of database that a catalog can be in", hint=hint)


def check_temporal(temporal: TemporalSettings) -> None:
    """Raise `ConfigurationInvalid` for a server that nobody can reach."""
    if not _is_address(temporal.address):
        hint = "Write it as host:port, such as 127.0.0.1:7233. TEMPORAL_ADDRESS in the environment overrides the file."
        raise ConfigurationInvalid(f"temporal.address is {temporal.address!r}", hint=hint)
    if not 0 < temporal.connect_timeout_s < math.inf:
        hint = "Give a number of seconds above 0, such as 10."
        raise ConfigurationInvalid(f"temporal.connect_timeout_s is {temporal.connect_timeout_s:g}", hint=hint)


def check_telemetry(telemetry: TelemetrySettings) -> None:
    """Raise `ConfigurationInvalid` for a place at which no metrics can be served."""
    address = telemetry.prometheus_address
    if address is not None and not _is_address(address):
        hint = "Write it as host:port, such as 127.0.0.1:9464."
        raise ConfigurationInvalid(f"telemetry.prometheus_address is {address!r}", hint=hint)


def check_reserved(job: JobSettings) -> None:
    """Raise `ConfigurationInvalid` for a job whose sessions could not be told from those of no job."""
    if job.name in _RESERVED:
        raise ConfigurationInvalid(
            f"name of job {job.name} is the one under which {_RESERVED[job.name]} runs",
            hint="Give the job another name.",
        )


def check_selection(job: JobSettings) -> None:
    """Raise `ConfigurationInvalid` for references of a job that can mean no machine and no disk."""
    for key, references in (("machines", job.machines), ("excluded", job.excluded)):
        for reference in references:
            if not parse_selector(reference).value.strip():
                hint = "Name a machine by its id or name, or a group such as folder:/prod; an empty list is allowed."
                raise ConfigurationInvalid(f"{key} of job {job.name} has {reference!r}, which names nothing", hint=hint)
    for pattern in job.excluded_disks:
        machine, _, disk = pattern.rpartition("/")
        if not (machine.strip() and disk.strip()):
            hint = "Write it as machine/key, such as web01/2001; web01/* means every disk of web01."
            raise ConfigurationInvalid(
                f"excluded_disks of job {job.name} has {pattern!r}, which names no disk", hint=hint
            )


def _is_address(text: str) -> bool:
    """Return whether a text is ``host:port``; the host may be an IPv6 address in brackets."""
    host, _, port = text.rpartition(":")
    is_port = port.isascii() and port.isdecimal() and 1 <= int(port) <= _PORT_MAX
    is_host = bool(host) and (":" not in host or (host.startswith("[") and host.endswith("]")))
    return is_port and is_host and not set(host) & set("/@ ")
