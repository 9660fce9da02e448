"""How activities get at the world: by name, through functions that the worker hands them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

from holdfast.catalog.database import Catalog
from holdfast.errors import CredentialMissing, PointNotFound
from holdfast.model.ids import CredentialName, DiskKey, ProviderName, RepositoryName
from holdfast.model.points import MoverAccess, OpenPoint
from holdfast.providers.ports import Provider
from holdfast.storage.chains.repository import Repository

ProviderOpener: TypeAlias = Callable[[ProviderName], Provider]
"""Returns the provider of a name. Raises `ConfigurationInvalid` for an unknown one."""
RepositoryOpener: TypeAlias = Callable[[RepositoryName], Repository]
"""Opens a repository anew, so that a lost mount is noticed. Raises `RepositoryNotFound`, `RepositoryUnavailable`."""
PassphraseLookup: TypeAlias = Callable[[CredentialName | None], str | None]
"""Returns the passphrase of a name, None for None. Raises `CredentialMissing`."""
CatalogOpener: TypeAlias = Callable[[], Catalog]
"""Returns the catalog of the process, opened at the first call. Raises `CatalogUnavailable`."""

ClockBounds: TypeAlias = Callable[[RepositoryName], int]
"""Returns the days by which the clock may be ahead of when a repository was last used."""


class Keyring:
    """The passphrases of a request: of the credential that it names first, and of the others as far as they are there.

    Raises `CredentialMissing` for the first alone: what the others would open is told chain by chain.
    """

    def __init__(
        self, lookup: PassphraseLookup, credential: CredentialName | None, others: Sequence[CredentialName]
    ) -> None:
        self._names: dict[str, CredentialName] = {}
        self.missing: CredentialMissing | None = None
        """The first that is not there."""
        self.first = lookup(credential)
        if credential is not None and self.first is not None:
            self._names[self.first] = credential
        for name in others:
            try:
                passphrase = lookup(name)
            except CredentialMissing as error:
                self.missing = self.missing or error
            else:
                if passphrase is not None:
                    self._names.setdefault(passphrase, name)

    @property
    def others(self) -> list[str]:
        """Return the passphrases besides the first."""
        return [passphrase for passphrase in self._names if passphrase != self.first]

    @property
    def all(self) -> list[str | None]:
        """Return what may open a chain: nothing at all, and each passphrase."""
        return [None, *self._names]

    def name_of(self, passphrase: str | None) -> CredentialName | None:
        """Return the name of one of them; None for None."""
        return None if passphrase is None else self._names[passphrase]


class MoverIssuer(Protocol):
    """Gives access to the data movers that this process serves."""

    def to_write(
        self, name: RepositoryName, point: OpenPoint, disks: Sequence[DiskKey], credential: CredentialName | None
    ) -> MoverAccess | None:
        """Return access to write disks of a point that was begun; None when the repository has no mover."""
        ...

    def to_read(
        self, name: RepositoryName, chain: str, number: int, disks: Sequence[DiskKey], credential: CredentialName | None
    ) -> MoverAccess | None:
        """Return access to read disks of a finished point; None when the repository has no mover."""
        ...

    def end_writing(self, name: RepositoryName, folder: str) -> None:
        """End the sessions that write below a folder of a repository; return when they have let go of its files."""
        ...


def open_point_file(
    open_repository: RepositoryOpener, name: RepositoryName, point: OpenPoint
) -> tuple[Repository, Path]:
    """Return a repository and the chain file of a point that is being written. Raises `PointNotFound`."""
    repository = open_repository(name)
    path = repository.chain_file(point.chain, point.file)
    if not repository.files.exists(path):
        open_repository(name)  # gone with its mount is another matter than gone
        raise PointNotFound(
            f"file {point.file} of chain {point.chain} is gone",
            hint="It was set aside after a failed flush, or removed; run the job again.",
        )
    return repository, path
