"""What the configuration says of data movers: certificates, how long they are waited for, and their connections."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from holdfast.errors import ConfigurationInvalid
from holdfast.formats.mover.events import LinkOptions
from holdfast.formats.mover.wire import STREAMS_MAX
from holdfast.mover.sockets import Address

PATIENCE_MIN_S: Final = 10
"""Less than a worker takes to start again."""
PATIENCE_MAX_S: Final = int(LinkOptions().give_up_s)
CONNECTIONS_DEFAULT: Final = LinkOptions().streams
MOVER_DEFAULTS: Final[Mapping[str, object]] = {
    "mover_listen": "",
    "mover_patience": PATIENCE_MAX_S,
    "mover_connections": CONNECTIONS_DEFAULT,
}
"""What the table of a repository says of its mover when it says nothing."""


class MoverSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``[mover]`` table: the certificate by which this worker's data mover is known; see `holdfast certs`."""

    ca_file: Path
    """Certificate of the authority that all movers trust; several may stand in the file."""
    certificate: Path
    """This worker's certificate, for the names and addresses under which it is reached."""
    key: Path
    """The private key of the certificate, without a passphrase."""


class MoverPlace(msgspec.Struct, frozen=True):
    """Where the data mover of a repository is."""

    reached_at: Address
    """Where proxies dial it."""
    listens_at: Address
    """Another address when something in between forwards to it."""

    @classmethod
    def parse(cls, reached_at: str, listens_at: str = "") -> "MoverPlace":
        """Return the place of two addresses, the second of which may be empty. Raises `ConfigurationInvalid`."""
        return cls(Address.parse(reached_at), Address.parse(listens_at or reached_at))

    @property
    def has_tls(self) -> bool:
        """Return whether both sides need certificates: unless nothing outside this host reaches it."""
        return not (self.reached_at.is_loopback and self.listens_at.is_loopback)


def check_without_mover(repository: str, told: Mapping[str, object]) -> None:
    """Refuse what is said of a mover that the repository does not have: it would be passed over.

    Raises `ConfigurationInvalid`. ``told`` has the keys of `MOVER_DEFAULTS`.
    """
    for key, value in told.items():
        if value != MOVER_DEFAULTS[key]:
            raise ConfigurationInvalid(
                f"{key} of repository {repository} is given, and its mover is not",
                hint="Give `mover`, the address at which proxies reach it, too.",
            )


def check_mover(repository: str, place: MoverPlace, *, has_certificate: bool) -> None:
    """Raise `ConfigurationInvalid` for a place of a repository's mover that nobody reaches, or may reach as it is."""
    for key, address in (("mover", place.reached_at), ("mover_listen", place.listens_at)):
        if not address.port:
            raise ConfigurationInvalid(f"{key} of repository {repository} has no port: {address}")
        if not address.is_loopback and not has_certificate:
            raise ConfigurationInvalid(
                f"mover of repository {repository} is reached from other hosts at {address} and has no certificate",
                hint="Make one with `holdfast certs` and name it in the table `mover`.",
            )


def check_patience(repository: str, seconds: int) -> None:
    """Raise `ConfigurationInvalid` for a patience with a repository's mover that nobody means."""
    if not PATIENCE_MIN_S <= seconds <= PATIENCE_MAX_S:
        hint = f"Give a number of seconds from {PATIENCE_MIN_S} to {PATIENCE_MAX_S}."
        raise ConfigurationInvalid(f"mover_patience of repository {repository} is {seconds}", hint=hint)


def check_connections(repository: str, count: int) -> None:
    """Raise `ConfigurationInvalid` for a number of connections that a repository's mover does not take."""
    if not 1 <= count <= STREAMS_MAX:
        hint = f"Give a number from 1 to {STREAMS_MAX}."
        raise ConfigurationInvalid(f"mover_connections of repository {repository} is {count}", hint=hint)
