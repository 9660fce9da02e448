"""The demonstration's folder: configuration, credential, provider, repository, and where everything is."""

import json
import secrets
from pathlib import Path

import msgspec

from holdfast.errors import RequestInvalid

JOB = "demo"
PROVIDER = "lab"
PROXY = "proxy-a"
REPOSITORY = "vault"
_CREDENTIAL = "demo"
_MARKER = ".holdfast-demo"


class DemoPlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where the demonstration lives."""

    root: Path

    @property
    def config(self) -> Path:
        """Return the configuration file."""
        return self.root / "holdfast.toml"

    @property
    def home(self) -> Path:
        """Return the folder of catalog, credentials and development server."""
        return self.root / "home"

    @property
    def disks(self) -> Path:
        """Return the folder of the raw disks."""
        return self.root / "disks"

    @property
    def provider(self) -> Path:
        """Return the folder that behaves as a hypervisor."""
        return self.root / "hypervisor"

    @property
    def repository(self) -> Path:
        """Return the folder of the restore points."""
        return self.root / "repository"

    @property
    def logs(self) -> Path:
        """Return the folder of the workers' logs."""
        return self.root / "logs"


def prepare_place(root: Path) -> DemoPlace:
    """Make the folder, which must be new, empty, or of an earlier demonstration (whose content must be gone).

    Raises `RequestInvalid` for a folder with anything else in it.
    """
    root.mkdir(parents=True, exist_ok=True)
    strangers = [path.name for path in root.iterdir()]
    if strangers:
        raise RequestInvalid(
            f"folder {root} is not empty: {strangers[0]}", hint="Name a new folder, or remove this one yourself."
        )
    place = DemoPlace(root=root)
    for folder in (place.home / "credentials", place.disks, place.logs):
        folder.mkdir(parents=True, mode=0o700)
    (root / _MARKER).touch()
    return place


def write_configuration(place: DemoPlace, grpc: str, namespace: str, provider: str) -> None:
    """Write configuration and passphrase; ``provider`` is the table of the provider."""
    credential = place.home / "credentials" / _CREDENTIAL
    credential.touch(mode=0o600)
    credential.write_text(secrets.token_urlsafe(24) + "\n", encoding="utf-8")
    place.config.write_text(
        "\n".join(
            (
                f"home = {json.dumps(str(place.home))}",
                "",
                "[temporal]",
                f"address = {json.dumps(grpc)}",
                f"namespace = {json.dumps(namespace)}",
                "",
                provider,
                "[[repositories]]",
                f'name = "{REPOSITORY}"',
                f"path = {json.dumps(str(place.repository))}",
                "",
                "[[proxies]]",
                f'name = "{PROXY}"',
                "",
                "[[jobs]]",
                f'name = "{JOB}"',
                f'provider = "{PROVIDER}"',
                f'repository = "{REPOSITORY}"',
                f'proxy = "{PROXY}"',
                f'credential = "{_CREDENTIAL}"',
                'machines = ["web01", "db01"]',
                "# Every byte is kept, so that restored disks can be compared with their originals as a whole.",
                "exclude_swap = false",
                "exclude_deleted = false",
                "",
            )
        ),
        encoding="utf-8",
    )
