"""The checks of ``holdfast doctor``. Each looks at one part of an installation and says what to do about it."""

import stat
from collections.abc import Iterator
from enum import StrEnum

import msgspec

from holdfast.errors import (
    CatalogUnavailable,
    ConfigurationInvalid,
    HoldfastError,
    MachineNotFound,
    RepositoryUnavailable,
)
from holdfast.model.selection import SelectorKind, parse_selector
from holdfast.mover.sockets import Address, listen
from holdfast.planning.extent_selection import RESERVE_BYTES
from holdfast.providers.ports import Provider
from workers.cli import wording
from workers.cli.invocation import Invocation
from workers.config import find_file
from workers.devserver import find_temporal
from workers.job_settings import JobSettings
from workers.provider_settings import LocalProviderSettings, ProviderSettings, VSphereProviderSettings
from workers.providers import vsphere_product
from workers.repository_settings import RepositorySettings

_LOW_BYTES = 10 * RESERVE_BYTES
"""Less free space than this is worth a warning."""


class Level(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one check found. ``code`` and ``exit_status`` are those of the error of a check that failed."""

    check: str
    level: Level
    text: str
    hint: str = ""
    code: str = ""
    exit_status: int = 0


def ok(check: str, text: str) -> Finding:
    """Return the finding that all is well."""
    return Finding(check=check, level=Level.OK, text=text)


def warn(check: str, text: str, hint: str) -> Finding:
    """Return the finding of something that works and should not stay as it is."""
    return Finding(check=check, level=Level.WARN, text=text, hint=hint)


def fail(check: str, error: HoldfastError, hint: str | None = None) -> Finding:
    """Return the finding of something that does not work."""
    return Finding(
        check=check,
        level=Level.FAIL,
        text=error.message,
        hint=hint if hint is not None else error.hint,
        code=error.code,
        exit_status=error.exit_status,
    )


def check_configuration(run: Invocation) -> Iterator[Finding]:
    """Check that there is a configuration, that it can be read and that it describes something."""
    try:
        file = find_file(run.flags.config)
        settings = run.settings
    except HoldfastError as error:
        yield fail("configuration", error)
        return
    counts = ((settings.providers, "provider"), (settings.repositories, "repository"), (settings.proxies, "proxy"))
    missing = [noun for entries, noun in counts if not entries]
    if file is None:
        hint = "Write holdfast.toml; temporal-dev/holdfast.toml is a sample, docs/reference/configuration.md the list."
        yield warn("configuration", "there is no configuration file; the defaults protect nothing", hint)
    elif missing:
        yield warn("configuration", f"{file} names no {' and no '.join(missing)}", "Nothing can be protected without.")
    else:
        yield ok("configuration", f"{file}, {wording.count(len(settings.jobs), 'job')}")


def check_home(run: Invocation) -> Iterator[Finding]:
    """Check the home folder, the credentials of jobs, and the catalog."""
    home = run.settings.home
    if not home.is_dir():
        yield warn("home", f"{home} is not there yet", "A worker makes it when it starts.")
    elif stat.S_IMODE(home.stat().st_mode) & 0o022:
        yield warn("home", f"{home} may be written by others", f"Run `chmod go-w {home}`.")
    else:
        yield ok("home", str(home))
    for name in sorted({job.credential for job in run.settings.jobs if job.credential is not None}):
        try:
            run.settings.credentials.passphrase(name)
        except HoldfastError as error:
            yield fail(f"credential {name}", error)
        else:
            yield ok(f"credential {name}", "readable by its owner only")
    yield _catalog(run)


def _catalog(run: Invocation) -> Finding:
    try:
        with run.catalog() as catalog:
            found = catalog.summary()
    except CatalogUnavailable as error:
        if "no catalog at" in error.message:
            return warn("catalog", error.message, error.hint)
        return fail("catalog", error)
    except HoldfastError as error:
        return fail("catalog", error)
    if not found.writable:
        return fail("catalog", CatalogUnavailable(f"the catalog cannot be written: {found.obstacle}"))
    counted = f"{wording.count(found.sessions, 'session')}, {wording.count(found.points, 'point')}"
    return ok("catalog", f"{found.address}, {counted}")


def check_repositories(run: Invocation) -> Iterator[Finding]:
    """Check that every repository is there and has room."""
    for settings in run.settings.repositories:
        yield _repository(run, settings)


def _repository(run: Invocation, settings: RepositorySettings) -> Finding:
    check = f"repository {settings.name}"
    try:
        opened = run.repository(settings)
        free = run.files.free_bytes(settings.path)
        chains = len(opened.chain_folders())
    except RepositoryUnavailable as error:
        if _is_elsewhere(settings):
            return ok(check, f"on another host, behind its mover at {settings.mover}")
        hint = f"Mount it again; `holdfast repository create {settings.name}` makes a new one."
        return fail(check, error, hint)
    except HoldfastError as error:
        return fail(check, error)
    text = f"{settings.path}, {wording.size(free)} free, {wording.count(chains, 'chain')}"
    if free < _LOW_BYTES:
        return warn(check, text, "Free space soon; a full repository stops sessions, and keeps what is committed.")
    return ok(check, text)


def _is_elsewhere(settings: RepositorySettings) -> bool:
    """Return whether a repository is on another host: its mover has an address that this one has not."""
    place = settings.mover_place
    if place is None:
        return False
    try:
        listen(Address(place.listens_at.host, 0)).close()
    except ConfigurationInvalid:
        return True
    return False


def check_providers(run: Invocation) -> Iterator[Finding]:
    """Check that every provider answers and knows the machines of the jobs."""
    for settings in run.settings.providers:
        yield from _provider(run, settings)


def _provider(run: Invocation, settings: ProviderSettings) -> Iterator[Finding]:
    check = f"provider {settings.name}"
    names: set[str] = set()
    count = 0
    try:
        product = _product(run, settings)
        provider = run.provider(settings)
        for machine in provider.machines():
            names |= {machine.name, machine.machine_id}
            count += 1
    except HoldfastError as error:
        is_gone = isinstance(settings, LocalProviderSettings) and not settings.path.exists()
        hint = f"`holdfast provider create {settings.name}` makes a new one." if is_gone else None
        yield fail(check, error, hint)
        return
    if not count:
        yield warn(check, f"{product}it has no machines", _EMPTY_HINTS[type(settings)])
    else:
        yield ok(check, f"{product}{wording.count(count, 'machine')}")
    for job in run.settings.jobs:
        if job.provider == settings.name:
            yield from _machines(job, names)
            yield from _groups(job, provider)


_EMPTY_HINTS = {
    LocalProviderSettings: "Register one with `holdfast machine add`.",
    VSphereProviderSettings: "Let its user see the machines: give it the role on a folder or data center of them.",
}


def _product(run: Invocation, settings: ProviderSettings) -> str:
    """Return what a provider is, to be followed by what it has; a folder needs no words."""
    if isinstance(settings, LocalProviderSettings):
        return ""
    return f"{vsphere_product(settings, run.settings.credentials)}, "


def _machines(job: JobSettings, names: set[str]) -> Iterator[Finding]:
    single = {one.value for one in map(parse_selector, job.machines) if one.kind is SelectorKind.MACHINE}
    missing = sorted(single - names)
    if missing:
        error = MachineNotFound(f"provider {job.provider} has no machine {', '.join(missing)}")
        yield fail(f"job {job.name}", error, "List them with `holdfast machines`, and correct the job.")


def _groups(job: JobSettings, provider: Provider) -> Iterator[Finding]:
    """Check that the groups a job names mean something."""
    check = f"job {job.name}"
    for selector in map(parse_selector, job.machines):
        if selector.kind is SelectorKind.MACHINE:
            continue
        try:
            first = next(provider.members(selector), None)
        except HoldfastError as error:
            yield fail(check, error)
            continue
        if first is None:
            hint = f"List them with `holdfast machines --in {selector.text}`, and correct the job."
            yield warn(check, f"{selector.text} has no machines", hint)


def check_tools(_run: Invocation) -> Iterator[Finding]:
    """Check the programs that are used."""
    try:
        yield ok("tools", f"temporal at {find_temporal()}")
    except HoldfastError as error:
        # Only the development server needs it.
        yield warn("tools", error.message, error.hint)


def is_usable(findings: list[Finding]) -> bool:
    """Return whether the configuration could be read, which all other checks need."""
    return not any(f.check == "configuration" and f.code == ConfigurationInvalid.code for f in findings)
