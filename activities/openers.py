"""How activities get at the world: by name, through functions that the worker hands them."""

from collections.abc import Callable
from typing import TypeAlias

from holdfast.catalog.database import Catalog
from holdfast.model.ids import CredentialName, ProviderName, RepositoryName
from holdfast.providers.ports import Provider
from holdfast.storage.repository import Repository

ProviderOpener: TypeAlias = Callable[[ProviderName], Provider]
"""Returns the provider of a name. Raises `ConfigurationInvalid` for an unknown one."""
RepositoryOpener: TypeAlias = Callable[[RepositoryName], Repository]
"""Opens a repository anew, so that a lost mount is noticed. Raises `RepositoryNotFound`, `RepositoryUnavailable`."""
PassphraseLookup: TypeAlias = Callable[[CredentialName | None], str | None]
"""Returns the passphrase of a name, None for None. Raises `CredentialMissing`."""
CatalogOpener: TypeAlias = Callable[[], Catalog]
"""Returns the catalog of the process, opened at the first call. Raises `CatalogUnavailable`."""
