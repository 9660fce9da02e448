"""The folder in which an operator keeps the movers' authority and the certificates it has issued.

::

    ca.pem       the authority's certificate, for every worker
    ca.key       its key: whoever has it can make certificates; no worker needs it
    NAME.pem     a worker's certificate
    NAME.key     its key, for that worker alone

All files have mode 0600. Nothing is overwritten; what is renewed is kept under another name.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from holdfast.clock import Clock
from holdfast.errors import ConfigurationInvalid, RequestInvalid
from holdfast.mover.certificates import Authority, CertificateFacts, Pair, checked_address, facts_of
from holdfast.storage.files.atomic import Files
from workers.credentials import NAME

AUTHORITY = "ca"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One certificate to be made."""

    name: str
    addresses: tuple[str, ...]
    moves: tuple[tuple[Path, Path], ...] = ()
    """Old files that are in the way, and what they will be called."""


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate that was made, and where it is."""

    name: str
    certificate: Path
    key: Path
    facts: CertificateFacts
    kept_as: tuple[Path, ...] = ()
    """What was moved aside for it."""


class CertificateFolder:
    """Makes certificates in a folder."""

    def __init__(self, folder: Path, files: Files, clock: Clock) -> None:
        self.folder = folder
        self._files = files
        self._clock = clock

    def has_authority(self) -> bool:
        """Return whether the authority was made. Raises `ConfigurationInvalid` when half of it is there."""
        found = [self._files.exists(path) for path in self._paths(AUTHORITY)]
        if any(found) and not all(found):
            certificate, key = self._paths(AUTHORITY)
            raise ConfigurationInvalid(
                f"of {certificate} and {key} only one is there",
                hint="Bring the other back, or make another authority in a new folder.",
            )
        return all(found)

    def authority(self) -> Authority:
        """Return the authority of the folder, made at the first call. Raises `ConfigurationInvalid`."""
        certificate, key = self._paths(AUTHORITY)
        if self.has_authority():
            pair = Pair(certificate=self._files.read(certificate), key=self._files.read(key))
            try:
                return Authority.load(pair)
            except ConfigurationInvalid as error:
                raise ConfigurationInvalid(f"{self.folder}: {error.message}", hint=error.hint) from error
        authority = Authority.new(self._clock.now())
        self._files.make_folder(self.folder)
        self._write(AUTHORITY, authority.pair)
        return authority

    def planned(self, names: Sequence[str], addresses: Sequence[str], *, renew: bool) -> list[Order]:
        """Return what is to be made; nothing is changed. Raises `RequestInvalid` for what cannot be.

        Without ``addresses`` a renewed certificate keeps those it had, and a new one is for its name.
        """
        if addresses and len(names) > 1:
            hint = "Call it once for each name that has addresses of its own."
            raise RequestInvalid(f"one address cannot be that of {len(names)} workers", hint=hint)
        for index, name in enumerate(names):
            _check_name(name, names[:index])
        return [self._planned(name, addresses, renew=renew) for name in names]

    def carry_out(self, order: Order) -> Issued:
        """Make one certificate and its key. Raises `ConfigurationInvalid` when the authority cannot be used."""
        pair = self.authority().issue(order.name, order.addresses, self._clock.now())
        for path, kept_as in order.moves:
            self._files.rename(path, kept_as)
        self._write(order.name, pair)
        certificate, key = self._paths(order.name)
        return Issued(
            name=order.name,
            certificate=certificate,
            key=key,
            facts=facts_of(pair.certificate),
            kept_as=tuple(kept_as for _, kept_as in order.moves),
        )

    def _planned(self, name: str, addresses: Sequence[str], *, renew: bool) -> Order:
        there = [path for path in self._paths(name) if self._files.exists(path)]
        if there and not renew:
            hint = "Add `--renew`, which keeps the old files under another name, or choose another name."
            raise RequestInvalid(f"{there[0]} is there already", hint=hint)
        if renew and not there:
            raise RequestInvalid(f"{self._paths(name)[0]} is not there to be renewed", hint="Leave `--renew` away.")
        wanted = addresses or self._addresses_of(name) or (name,)
        moves = tuple((path, self._aside(path)) for path in there)
        return Order(name=name, addresses=tuple(map(checked_address, wanted)), moves=moves)

    def _addresses_of(self, name: str) -> Sequence[str]:
        """Return the addresses of the certificate that is there."""
        certificate, _ = self._paths(name)
        if not self._files.exists(certificate):
            return ()
        try:
            return facts_of(self._files.read(certificate)).addresses
        except ConfigurationInvalid as error:
            hint = "Name its addresses with `--address`, or move the file away."
            raise ConfigurationInvalid(f"{certificate}: {error.message}", hint=hint) from error

    def _aside(self, path: Path) -> Path:
        kept_as = path.with_name(f"{path.stem}-until-{self._clock.now():%Y%m%dT%H%M%SZ}{path.suffix}")
        if self._files.exists(kept_as):
            raise RequestInvalid(f"{kept_as} is there already", hint="It was renewed this very second.")
        return kept_as

    def _paths(self, name: str) -> tuple[Path, Path]:
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def _write(self, name: str, pair: Pair) -> None:
        for path, content in zip(self._paths(name), (pair.certificate, pair.key), strict=True):
            handle = self._files.create(path)
            try:
                handle.write(0, [content])
                handle.sync()
            finally:
                handle.close()


def _check_name(name: str, earlier: Sequence[str]) -> None:
    if not NAME.fullmatch(name):
        hint = "Use up to 63 letters, digits, dots, dashes and underscores, a letter or digit first."
        raise RequestInvalid(f"{name!r} cannot be the name of a certificate", hint=hint)
    if name.lower() == AUTHORITY:
        raise RequestInvalid(f"{name} is the name of the authority", hint="Choose another one.")
    if name in earlier:
        raise RequestInvalid(f"{name} is named twice")
