"""What a command works with: the flags it was called with, the settings, and where it may write.

Standard output carries the result and nothing else: with ``--json`` exactly one document. Everything said on the way
goes to standard error.
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec
from rich.console import Console, RenderableType
from rich.logging import RichHandler
from rich.text import Text

from holdfast.clock import Clock, SystemClock
from holdfast.errors import HoldfastError, RequestInvalid
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.providers.ports import Provider
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from workers.cli.tables import put
from workers.config import ProxySettings, Settings, load_settings
from workers.provider_settings import LocalProviderSettings, ProviderSettings
from workers.providers import ProviderPool, open_local
from workers.repository_settings import RepositorySettings

if TYPE_CHECKING:
    from holdfast.catalog.database import Catalog

_PLAIN_WIDTH = 160
"""Columns of output that goes into a file or pipe, where nothing tells the width."""


class Flags(msgspec.Struct, frozen=True, kw_only=True):
    """The options every command takes."""

    config: Path | None = None
    json: bool = False
    quiet: bool = False
    debug: bool = False

    def joined(self, other: "Flags") -> "Flags":
        """Return both: what stands before the command and what stands behind it."""
        return Flags(
            config=other.config or self.config,
            json=self.json or other.json,
            quiet=self.quiet or other.quiet,
            debug=self.debug or other.debug,
        )


class Invocation:
    """One run of a command."""

    def __init__(self, flags: Flags, clock: Clock | None = None) -> None:
        self.flags = flags
        self.clock = clock if clock is not None else SystemClock()
        self.files = HostFiles()
        self.out = console(sys.stdout)
        self.err = console(sys.stderr)
        self._settings: Settings | None = None
        self._providers: ProviderPool | None = None

    @property
    def settings(self) -> Settings:
        """Return the settings, read at the first use."""
        if self._settings is None:
            self._settings = load_settings(self.flags.config)
        return self._settings

    @property
    def is_talkative(self) -> bool:
        """Return whether a person reads along."""
        return not (self.flags.json or self.flags.quiet)

    def show(self, document: object, *human: RenderableType) -> None:
        """Write the result: ``document`` with ``--json``, else ``human``, which ``--quiet`` keeps too.

        A string is shown as it stands; what has a style is a `Text`.
        """
        if self.flags.json:
            write_json(document)
            return
        for part in human:
            put(self.out, part)

    def say(self, text: str) -> None:
        """Tell a person what is going on."""
        if self.is_talkative:
            put(self.err, text)

    def warn(self, text: str) -> None:
        """Tell what the operator should know even when nobody reads along."""
        put(self.err, Text.assemble(("warning:", "yellow"), " ", text))

    def catalog(self) -> "Catalog":
        """Open the catalog for reading. Raises `CatalogUnavailable`."""
        # Half of what every command would have to load; most do without.
        from holdfast.catalog.database import Catalog

        return Catalog.open_read_only(self.settings.catalog_url, self.clock)

    def repository_settings(self, name: str | None) -> RepositorySettings:
        """Return the repository called ``name``; without a name the only one. Raises `RequestInvalid`."""
        if name is not None:
            return self.settings.repository(name)
        return only("repository", "--repository", self.settings.repositories)

    def repository(self, settings: RepositorySettings) -> Repository:
        """Open a repository. Raises `RepositoryUnavailable`."""
        return Repository.open(settings.path, self.files)

    def provider_settings(self, name: str | None) -> ProviderSettings:
        """Return the provider called ``name``; without a name the only one. Raises `RequestInvalid`."""
        if name is not None:
            return self.settings.provider(name)
        return only("provider", "--provider", self.settings.providers)

    def proxy_name(self, name: str | None) -> str:
        """Return the name of a proxy of the configuration; without a name the only one."""
        if name is not None:
            return self.settings.proxy(name).name
        return only("proxy", "--proxy", self.settings.proxies).name

    def proxies(self, name: str | None) -> tuple[ProxySettings, ...]:
        """Return the proxy called ``name``; without a name all that may be chosen from. Raises `RequestInvalid`."""
        if name is not None:
            return (self.settings.proxy(name),)
        if len(self.settings.proxies) > 1:
            return self.settings.proxies
        return (only("proxy", "--proxy", self.settings.proxies),)

    @property
    def providers(self) -> ProviderPool:
        """Return the providers of the configuration; they are closed when the command ends."""
        if self._providers is None:
            self._providers = ProviderPool(self.settings, self.clock, self.settings.credentials)
        return self._providers

    def provider(self, settings: ProviderSettings) -> Provider:
        """Return a provider. Raises what its hypervisor says against a login."""
        return self.providers.open(settings.name)

    def local_provider_settings(self, name: str | None) -> LocalProviderSettings:
        """Return the local provider called ``name``; without a name the only provider.

        Raises `RequestInvalid` for one of another kind.
        """
        settings = self.provider_settings(name)
        if not isinstance(settings, LocalProviderSettings):
            hint = "Machines of a hypervisor are made in the hypervisor; choose a provider of kind local."
            raise RequestInvalid(f"provider {settings.name} is not local", hint=hint)
        return settings

    def local_provider(self, name: str | None) -> LocalProvider:
        """Return the local provider called ``name``, with what only local ones can do. Raises `RequestInvalid`."""
        return open_local(self.local_provider_settings(name), self.clock)

    def close(self) -> None:
        """Let go of what the command opened. Idempotent."""
        if self._providers is not None:
            self._providers.close()

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Send log lines to standard error while the block runs: warnings, or everything with ``--debug``."""
        handler = RichHandler(console=self.err, show_path=False, show_time=self.flags.debug)
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        if not self.flags.debug:
            handler.addFilter(_is_for_operators)
        root = logging.getLogger()
        level = root.level
        root.addHandler(handler)
        root.setLevel(logging.DEBUG if self.flags.debug else logging.WARNING)
        try:
            yield
        finally:
            root.setLevel(level)
            root.removeHandler(handler)


def _is_for_operators(record: logging.LogRecord) -> bool:
    """Return whether a log line tells more than that a call to the server is tried again, which we tell ourselves."""
    return not (record.name.startswith("temporalio.core") and record.levelno < logging.ERROR and "retr" in record.name)


_Entry = TypeVar("_Entry", ProviderSettings, RepositorySettings, ProxySettings)


def only(kind: str, option: str, entries: Sequence[_Entry]) -> _Entry:
    """Return the single entry of ``entries``. Raises `RequestInvalid` when there is none or a choice."""
    if len(entries) == 1:
        return entries[0]
    if not entries:
        hint = f"Add a {kind} to the configuration; docs/reference/configuration.md shows how."
        raise RequestInvalid(f"the configuration has no {kind}", hint=hint)
    names = ", ".join(entry.name for entry in entries)
    raise RequestInvalid(f"the configuration has several: {names}", hint=f"Choose one with `{option} NAME`.")


def console(stream: object) -> Console:
    """Return a console for a stream; without a terminal it is wide enough to keep rows on one line."""
    file = cast("Any", stream)
    return Console(file=file, highlight=False, width=None if file.isatty() else _PLAIN_WIDTH)


def write_json(document: object) -> None:
    """Write one JSON document to standard output."""
    encoded = msgspec.json.encode(document, enc_hook=str)
    sys.stdout.write(msgspec.json.format(encoded, indent=2).decode() + "\n")
    sys.stdout.flush()


def error_document(error: HoldfastError) -> dict[str, object]:
    """Return an error as ``--json`` shows it."""
    return {"error": {"code": error.code, "message": error.message, "hint": error.hint}}
