"""The provider's folder: its parts, and the marker file that tells it from an empty mount point."""

import secrets
from pathlib import Path

from holdfast.errors import ConfigurationInvalid, ProviderUnavailable
from holdfast.providers.local.files import (
    StoredFile,
    beside,
    os_errors,
    read_json,
    sync_folder,
    write_json,
)
from holdfast.providers.raw_disks import describe

MARKER = "holdfast-local.json"
PARTS = ("machines", "snapshots", "tracking", "targets", "commits", "locks")


class Marker(StoredFile, frozen=True, kw_only=True):
    """Content of the marker file. ``provider_id`` is drawn once, when the folder is made."""

    provider_id: str


class Root:
    """Paths below the provider's folder.

    `check` must succeed before anything is concluded from what is there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.machines = self.path / "machines"
        self.snapshots = self.path / "snapshots"
        self.tracking = self.path / "tracking"
        self.targets = self.path / "targets"
        self.commits = self.path / "commits"
        self.locks = self.path / "locks"
        self._provider_id: str | None = None

    def create(self) -> None:
        """Make the folder with its parts; nothing happens when it is complete already.

        Raises `ConfigurationInvalid` when there is no marker but something else, so that a wrong
        path is not taken over silently.
        """
        with os_errors(ProviderUnavailable, f"creating the local provider's folder {self.path}"):
            self.path.mkdir(parents=True, exist_ok=True)
            marker = self.path / MARKER
            if not marker.exists():
                self._expect_empty()
            for part in PARTS:
                (self.path / part).mkdir(exist_ok=True)
            sync_folder(self.path)
            if not marker.exists():
                write_json(marker, Marker(provider_id=secrets.token_hex(16)))
        self.check()

    def check(self) -> None:
        """Raise `ProviderUnavailable` unless the folder is there and is the one it was at first."""
        marker = self.path / MARKER
        try:
            found = read_json(marker, Marker, ProviderUnavailable, "marker file").provider_id
            devices = {(self.path / part).stat().st_dev for part in PARTS}
        except OSError as error:
            raise ProviderUnavailable(
                f"the local provider's folder {self.path} is not there: {describe(error)}",
                hint="Mount the folder again, or make it with `LocalProvider.create`.",
            ) from error
        if self._provider_id not in (None, found):
            raise ProviderUnavailable(
                f"the local provider's folder {self.path} has become another one: "
                f"it was {self._provider_id}, it is {found}"
            )
        if len(devices) > 1:
            raise ConfigurationInvalid(f"the parts of {self.path} lie on different file systems")
        self._provider_id = found

    def _expect_empty(self) -> None:
        # An interrupted creation leaves some of the parts; a fresh file system has lost+found.
        known = {*PARTS, "lost+found", beside(self.path / MARKER).name}
        strange = sorted(entry.name for entry in self.path.iterdir() if entry.name not in known)
        if strange:
            raise ConfigurationInvalid(f"{self.path} is not a local provider's folder, and holds {strange[0]!r}")
