"""The check of ``holdfast doctor`` that looks for the data movers of repositories."""

from collections.abc import Iterator

from holdfast.errors import ConfigurationInvalid, HoldfastError, LinkError
from holdfast.mover.client import MoverClient
from holdfast.mover.sockets import listen
from workers.cli import wording
from workers.cli.checks import Finding, fail, ok, warn
from workers.cli.invocation import Invocation
from workers.mover_settings import MoverPlace
from workers.movers import mover_client, server_context
from workers.repository_settings import RepositorySettings


def check_movers(run: Invocation) -> Iterator[Finding]:
    """Check that every mover answers, or where none does that it could listen on this host."""
    wanted = [(each, each.mover_place) for each in run.settings.repositories if each.mover_place is not None]
    if not wanted:
        return
    try:
        client = mover_client(run.settings, run.clock)
        server_context(run.settings)
    except HoldfastError:
        return  # what is wrong with the certificate is told beside
    for settings, place in wanted:
        yield _mover(client, settings, place)


def _mover(client: MoverClient, settings: RepositorySettings, place: MoverPlace) -> Finding:
    check = f"mover {settings.name}"
    try:
        client.probe(place.reached_at, has_tls=place.has_tls)
    except OSError as error:
        return _silent(check, settings, place, error)
    except HoldfastError as error:
        return fail(check, error)
    connections = wording.count(settings.mover_connections, "connection")
    return ok(check, f"answers at {place.reached_at}, {connections} for each disk")


def _silent(check: str, settings: RepositorySettings, place: MoverPlace, error: OSError) -> Finding:
    """Return what to make of an address where nobody answers: on its own host it could be listened at."""
    start = f"Start `holdfast worker repository --name {settings.name}`"
    try:
        listen(place.listens_at).close()
    except ConfigurationInvalid:
        failed = LinkError(f"no mover answers at {place.reached_at}: {error.strerror or error}")
        return fail(check, failed, f"{start} on the host of the repository, and let proxies through to its port.")
    return warn(check, f"no mover answers at {place.reached_at}, where one could listen", f"{start}.")
