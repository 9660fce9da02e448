"""The checks of ``holdfast doctor`` that look at the certificate of the data movers."""

import stat
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

from holdfast.errors import ConfigurationInvalid
from holdfast.mover.certificates import CertificateFacts, facts_of
from holdfast.mover.rehearsal import objection
from holdfast.mover.sockets import Address, Identity
from workers.cli.checks import Finding, fail, ok, warn
from workers.cli.invocation import Invocation
from workers.movers import mover_identity
from workers.repository_settings import RepositorySettings

CHECK = "mover certificate"
ENDS_SOON = timedelta(days=30)
"""A certificate that ends earlier than this is worth a warning."""

_RENEW = "Renew it with `holdfast certs {name} --renew`, where the authority's key is, and copy it here."
_MISMATCH = "KEY_VALUES_MISMATCH"
"""How OpenSSL says that a key is not that of a certificate."""


def check_certificate(run: Invocation) -> Iterator[Finding]:
    """Check that the certificate in the table ``mover`` is one that other movers accept, and goes on to be."""
    identity = mover_identity(run.settings)
    if identity is None:
        return
    try:
        refused = _refused(identity)
        facts = facts_of(identity.certificate.read_bytes())
    except ConfigurationInvalid as error:
        yield fail(CHECK, error)
        return
    now = run.clock.now()
    if not facts.begins_at <= now < facts.ends_at:
        yield fail(CHECK, _out_of_date(identity, facts, is_over=now >= facts.ends_at))
    elif refused is not None:
        hint = "Make it with `holdfast certs` of the authority whose certificate `ca_file` is."
        message = f"{identity.certificate} is not accepted by the authority in {identity.ca_file}: {refused}"
        yield fail(CHECK, ConfigurationInvalid(message), hint)
    elif facts.ends_at - now < ENDS_SOON:
        yield warn(CHECK, f"{identity.certificate} ends on {facts.ends_at:%Y-%m-%d}", _renew(facts))
    else:
        yield ok(CHECK, f"{identity.certificate}, until {facts.ends_at:%Y-%m-%d}")
    yield from _key(identity.key)
    if refused is None:
        yield from _names(identity, facts, _served_here(run.settings.repositories))


def _refused(identity: Identity) -> str | None:
    """Return why other movers refuse the certificate. Raises `ConfigurationInvalid` for unusable files."""
    try:
        return objection(identity)
    except ConfigurationInvalid as error:
        if getattr(error.__cause__, "reason", None) != _MISMATCH:
            raise
        hint = "Copy both files from the folder of one call of `holdfast certs`."
        raise ConfigurationInvalid(f"{identity.key} is not the key of {identity.certificate}", hint=hint) from error


def _out_of_date(identity: Identity, facts: CertificateFacts, *, is_over: bool) -> ConfigurationInvalid:
    if is_over:
        return ConfigurationInvalid(f"{identity.certificate} ended on {facts.ends_at:%Y-%m-%d}", hint=_renew(facts))
    hint = "Set the clock of this host, or of the one where it was made."
    return ConfigurationInvalid(f"{identity.certificate} is good from {facts.begins_at:%Y-%m-%d %H:%M} UTC", hint=hint)


def _renew(facts: CertificateFacts) -> str:
    return _RENEW.format(name=facts.name or "NAME")


def _key(key: Path) -> Iterator[Finding]:
    if stat.S_IMODE(key.stat().st_mode) & 0o077:
        yield warn(CHECK, f"{key} may be read by others", f"Run `chmod 600 {key}`, and renew the certificate.")


def _served_here(repositories: Sequence[RepositorySettings]) -> Iterator[tuple[RepositorySettings, Address]]:
    """Yield the repositories whose movers are of this host: those whose folder is here."""
    for repository in repositories:
        place = repository.mover_place
        if place is not None and place.has_tls and repository.path.is_dir():
            yield repository, place.reached_at


def _names(
    identity: Identity, facts: CertificateFacts, served: Iterator[tuple[RepositorySettings, Address]]
) -> Iterator[Finding]:
    """Check that the certificate is good for the addresses at which this host's movers are reached."""
    for repository, address in served:
        if objection(identity, address.host) is not None:
            named = ", ".join(facts.addresses) or "nothing"
            text = (
                f"{identity.certificate} does not name {address.host}, where proxies reach the mover; it names {named}"
            )
            words = " ".join(f"--address {one}" for one in (*facts.addresses, address.host))
            hint = f"Run `holdfast certs {facts.name or 'NAME'} --renew {words}`, and copy the new one here."
            yield warn(f"repository {repository.name}", text, hint)
