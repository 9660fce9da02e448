"""The check of ``holdfast doctor`` that looks for the data movers of repositories."""

from collections.abc import Iterator

from holdfast.errors import ConfigurationInvalid, HoldfastError, LinkError
from holdfast.mover.client import MoverClient
from holdfast.mover.sockets import Address, listen
from workers.cli.checks import Finding, fail, ok, warn
from workers.cli.invocation import Invocation
from workers.config import RepositorySettings
from workers.movers import mover_client, server_context


def check_movers(run: Invocation) -> Iterator[Finding]:
    """Check that every mover answers, or where none does that it could listen on this host."""
    wanted = [settings for settings in run.settings.repositories if settings.mover]
    if not wanted:
        return
    try:
        client = mover_client(run.settings, run.clock)
        server_context(run.settings)
    except HoldfastError:
        return  # what is wrong with the certificate is told beside
    for settings in wanted:
        yield _mover(client, settings)


def _mover(client: MoverClient, settings: RepositorySettings) -> Finding:
    check, address = f"mover {settings.name}", Address.parse(settings.mover)
    try:
        client.probe(address, has_tls=not address.is_loopback)
    except OSError as error:
        return _silent(check, settings, address, error)
    except HoldfastError as error:
        return fail(check, error)
    return ok(check, f"answers at {address}")


def _silent(check: str, settings: RepositorySettings, address: Address, error: OSError) -> Finding:
    """Return what to make of an address where nobody answers: on its own host it could be listened at."""
    start = f"Start `holdfast worker repository --name {settings.name}`"
    try:
        listen(address).close()
    except ConfigurationInvalid:
        failed = LinkError(f"no mover answers at {address}: {error.strerror or error}")
        return fail(check, failed, f"{start} on the host of the repository, and let proxies through to its port.")
    return warn(check, f"no mover answers at {address}, where one could listen", f"{start}.")
