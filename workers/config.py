"""The configuration: one TOML file as frozen values, the credentials beside it, and the environment.

Nothing else reads the environment. A file is looked for in this order: the one named on the command line, then
``$HOLDFAST_CONFIG``, ``./holdfast.toml`` and ``<home>/holdfast.toml``; without any, the defaults hold. Paths in a file
are relative to the file. docs/reference/configuration.md is generated from the structs below.
"""

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from holdfast.errors import ConfigurationInvalid, HoldfastError, RepositoryNotFound, RequestInvalid
from holdfast.formats.magic import UNIT_SIZES
from holdfast.guest.masks import parse_masks
from workers.config_checks import (
    check_catalog,
    check_names,
    check_paths,
    check_reserved,
    check_selection,
    check_tasks,
    check_telemetry,
    check_temporal,
)
from workers.config_wording import complaint, nearest
from workers.credentials import NAME, Credentials
from workers.cron import check_cron
from workers.job_settings import JobSettings
from workers.method_settings import check_method
from workers.mover_settings import MoverSettings
from workers.provider_settings import (
    LocalProviderSettings,
    ProviderSettings,
    VSphereProviderSettings,
    check_vsphere,
    with_kinds,
)
from workers.repository_settings import RepositorySettings, check_repository
from workers.retention_settings import check_retention
from workers.telemetry_settings import TelemetrySettings
from workers.temporal_settings import TemporalSettings
from workers.throttling_settings import ThrottlingSettings, rules_of

FILE_NAME = "holdfast.toml"
_SAMPLE_MIB_MAX = 1 << 20


class ProxySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ``[[proxies]]`` table: a host that reads source disks and writes restored ones."""

    name: str
    """How jobs refer to it; also the name of its task queue."""
    tasks: int = 2
    """Disks worked on at once, 1 to 64."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys outside any table."""

    home: Path
    """Folder of the catalog, the credentials and the development server. Default: ``$HOLDFAST_HOME``, else
    ``~/.holdfast``."""
    catalog_url: str = ""
    """Address of the catalog's database; empty: the SQLite file ``catalog.sqlite`` in ``home``."""
    temporal: TemporalSettings = TemporalSettings()
    """How Temporal is reached."""
    mover: MoverSettings | None = None
    """Certificates of data movers, for those that are not on one host."""
    telemetry: TelemetrySettings = TelemetrySettings()
    """Where traces and metrics go."""
    providers: tuple[ProviderSettings, ...] = ()
    """Hypervisors."""
    repositories: tuple[RepositorySettings, ...] = ()
    """Places of restore points."""
    proxies: tuple[ProxySettings, ...] = ()
    """Hosts that move data."""
    throttling: tuple[ThrottlingSettings, ...] = ()
    """How fast data may go between hosts."""
    jobs: tuple[JobSettings, ...] = ()
    """Backup jobs."""

    def __post_init__(self) -> None:
        """Put the default of the catalog's address, which depends on ``home``, in its place."""
        if not self.catalog_url:
            msgspec.structs.force_setattr(self, "catalog_url", f"sqlite:///{self.home / 'catalog.sqlite'}")

    def provider(self, name: str) -> ProviderSettings:
        """Return the provider of this name. Raises `ConfigurationInvalid`."""
        return _named("provider", name, self.providers, ConfigurationInvalid)

    def repository(self, name: str) -> RepositorySettings:
        """Return the repository of this name. Raises `RepositoryNotFound`."""
        return _named("repository", name, self.repositories, RepositoryNotFound)

    def proxy(self, name: str) -> ProxySettings:
        """Return the proxy of this name. Raises `ConfigurationInvalid`."""
        return _named("proxy", name, self.proxies, ConfigurationInvalid)

    def job(self, name: str) -> JobSettings:
        """Return the job of this name. Raises `RequestInvalid`."""
        return _named("job", name, self.jobs, RequestInvalid)

    def proxies_of(self, job: JobSettings) -> tuple[ProxySettings, ...]:
        """Return the proxies that a job may use, in its order. Raises `ConfigurationInvalid`."""
        names = (job.proxy,) if job.proxy else job.proxies
        return tuple(self.proxy(name) for name in names) or self.proxies

    @property
    def credentials(self) -> Credentials:
        """Return the credentials of this installation."""
        return Credentials(self.home / "credentials")

    @property
    def dev_server_folder(self) -> Path:
        """Return where the development server keeps its database."""
        return self.home / "temporal"


def load_settings(chosen: Path | None = None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings of the file that `find_file` finds, or the defaults when there is none.

    Raises `ConfigurationInvalid` with file, key and the nearest known key.
    """
    file = find_file(chosen, environment)
    raw = with_kinds({} if file is None else _read(file))
    base = Path.cwd() if file is None else file.absolute().parent
    raw.setdefault("home", str(_default_home(environment)))
    where = "the configuration" if file is None else str(file)
    settings = _converted(_with_environment(raw, environment), base, where)
    try:
        _check(settings)
    except HoldfastError as error:
        raise ConfigurationInvalid(f"{where}: {error.message}", hint=error.hint) from error
    return settings


def find_file(chosen: Path | None = None, environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the configuration file in force, None when there is none.

    Raises `ConfigurationInvalid` when one that was asked for by name is not there.
    """
    named = chosen if chosen is not None else _path_in(environment, "HOLDFAST_CONFIG")
    if named is not None:
        if not named.is_file():
            origin = "" if chosen is not None else ", which HOLDFAST_CONFIG names,"
            raise ConfigurationInvalid(f"configuration file {named}{origin} is not there")
        return named
    candidates = (Path.cwd() / FILE_NAME, _default_home(environment) / FILE_NAME)
    return next((path for path in candidates if path.is_file()), None)


def _default_home(environment: Mapping[str, str]) -> Path:
    return _path_in(environment, "HOLDFAST_HOME") or Path("~/.holdfast").expanduser()


def _path_in(environment: Mapping[str, str], variable: str) -> Path | None:
    value = environment.get(variable, "")
    return Path(value).expanduser().absolute() if value else None


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationInvalid(f"configuration file {file} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        reason = str(error)[:1].lower() + str(error)[1:]
        raise ConfigurationInvalid(f"{file} is not TOML: {reason}") from error


def _with_environment(raw: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """Return ``raw`` with what the environment says about Temporal instead of what the file says."""
    temporal = raw.get("temporal", {})
    if not isinstance(temporal, dict):
        return raw
    told = {"address": environment.get("TEMPORAL_ADDRESS", ""), "namespace": environment.get("TEMPORAL_NAMESPACE", "")}
    return raw | {"temporal": temporal | {key: value for key, value in told.items() if value}}


def _converted(raw: dict[str, Any], base: Path, where: str) -> Settings:
    def to_path(kind: type, value: object) -> object:
        if kind is Path and isinstance(value, str) and value:
            return (base / Path(value).expanduser()).absolute()
        raise ValueError(f"Expected `path`, got {value!r}")  # msgspec adds where

    try:
        settings = msgspec.convert(raw, Settings, dec_hook=to_path)
    except msgspec.ValidationError as error:
        raise complaint(str(error), raw, Settings, where) from error
    return msgspec.structs.replace(
        settings,
        temporal=_with_absolute_files(settings.temporal, base),
        catalog_url=_with_absolute_sqlite(settings.catalog_url, base),
    )


def _with_absolute_files(temporal: TemporalSettings, base: Path) -> TemporalSettings:
    def absolute(name: str | None) -> str | None:
        return None if name is None else str(base / Path(name).expanduser())

    tls = temporal.tls
    if tls is not None:
        files = {key: absolute(getattr(tls, key)) for key in ("server_ca", "certificate", "key")}
        tls = msgspec.structs.replace(tls, **files)
    keys = tuple(msgspec.structs.replace(key, file=absolute(key.file)) for key in temporal.payload_keys)
    return msgspec.structs.replace(temporal, tls=tls, payload_keys=keys, api_key_file=absolute(temporal.api_key_file))


def _with_absolute_sqlite(url: str, base: Path) -> str:
    scheme, slashes, path = url.partition(":///")
    return f"{scheme}{slashes}{base / path}" if scheme == "sqlite" and path else url


def _check(settings: Settings) -> None:
    """Raise `ConfigurationInvalid` for what no single type can tell."""
    check_catalog(settings.catalog_url)
    check_temporal(settings.temporal)
    check_telemetry(settings.telemetry)
    for kind, entries in (
        ("provider", settings.providers),
        ("repository", settings.repositories),
        ("proxy", settings.proxies),
        ("throttling rule", settings.throttling),
        ("job", settings.jobs),
    ):
        check_names(kind, [entry.name for entry in entries])
    local = [entry for entry in settings.providers if isinstance(entry, LocalProviderSettings)]
    check_paths("providers", [(entry.name, entry.path) for entry in local])
    for provider in settings.providers:
        if isinstance(provider, VSphereProviderSettings):
            check_vsphere(provider)
    check_paths("repositories", [(entry.name, entry.path) for entry in settings.repositories])
    for repository in settings.repositories:
        check_repository(repository, has_certificate=settings.mover is not None)
        _check_named(repository, settings)
    rules_of(settings.throttling)
    for proxy in settings.proxies:
        check_tasks(f"tasks of proxy {proxy.name}", proxy.tasks)
    for job in settings.jobs:
        _check_job(job, settings)


def _check_named(repository: RepositorySettings, settings: Settings) -> None:
    """Raise `ConfigurationInvalid` when a repository names proxies or copies that are not there."""
    try:
        for proxy in repository.proxies:
            settings.proxy(proxy)
        for name in repository.copies:
            settings.repository(name)
    except HoldfastError as error:
        raise ConfigurationInvalid(f"repository {repository.name}: {error.message}", hint=error.hint) from error


def _check_job(job: JobSettings, settings: Settings) -> None:
    check_reserved(job)
    check_selection(job)
    try:
        settings.provider(job.provider)
        settings.repository(job.repository)
        proxies = settings.proxies_of(job)
        parse_masks(job.exclude_files)
    except HoldfastError as error:
        raise ConfigurationInvalid(f"job {job.name}: {error.message}", hint=error.hint) from error
    if job.proxy and job.proxies:
        raise ConfigurationInvalid(f"job {job.name} has both proxy and proxies", hint="Give one of them, or neither.")
    if not proxies:
        raise ConfigurationInvalid(f"job {job.name}: the configuration has no proxy", hint="Add a `[[proxies]]` table.")
    check_tasks(f"machines_at_once of job {job.name}", job.machines_at_once)
    if not 0 <= job.sample_mib <= _SAMPLE_MIB_MAX:
        hint = f"Give a number from 0 to {_SAMPLE_MIB_MAX}."
        raise ConfigurationInvalid(f"sample_mib of job {job.name} is {job.sample_mib}", hint=hint)
    both = sorted(set(job.machines) & set(job.excluded))
    if both:
        raise ConfigurationInvalid(f"job {job.name} both names and excludes machine {both[0]}")
    if job.unit_size not in UNIT_SIZES:
        sizes = ", ".join(map(str, UNIT_SIZES))
        raise ConfigurationInvalid(f"unit_size of job {job.name} is {job.unit_size}", hint=f"Allowed are {sizes}.")
    if job.credential is not None and not NAME.fullmatch(job.credential):
        raise ConfigurationInvalid(f"job {job.name}: {job.credential!r} cannot be the name of a credential")
    check_method(job)
    _check_schedule(job)


def _check_schedule(job: JobSettings) -> None:
    check_cron(f"schedule of job {job.name}", job.schedule)
    if job.retention is not None:
        check_retention(f"retention of job {job.name}", job.retention)
    try:
        ZoneInfo(job.timezone)
    except (LookupError, OSError, ValueError) as error:
        hint = "Use a name of the time zone database, such as Europe/Zurich."
        raise ConfigurationInvalid(f"job {job.name}: no time zone {job.timezone!r}", hint=hint) from error


_Entry = TypeVar("_Entry", ProviderSettings, RepositorySettings, ProxySettings, JobSettings)


def _named(kind: str, name: str, entries: Sequence[_Entry], error: type[HoldfastError]) -> _Entry:
    for entry in entries:
        if entry.name == name:
            return entry
    raise error(f"the configuration has no {kind} {name}", hint=nearest(name, [entry.name for entry in entries]))
