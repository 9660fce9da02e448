"""An installation in a folder, and the program called in this process."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from typer.testing import CliRunner, Result

from holdfast.clock import SystemClock
from holdfast.model.ids import DiskKey
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from workers.cli.main import app
from workers.config import Settings, load_settings
from workers.vcenter_lab import VCenterAddress

CONFIGURATION = """
home = "home"
[temporal]
address = "{address}"
connect_timeout_s = {patience}
[[providers]]
name = "lab"
path = "lab"
[[repositories]]
name = "main"
path = "repository"
[[proxies]]
name = "p1"
[[jobs]]
name = "nightly"
provider = "lab"
repository = "main"
proxy = "p1"
machines = ["web"]
schedule = "0 22 * * *"
"""
VCENTER = """
[[providers]]
name = "vc"
kind = "vsphere"
host = "{host}"
port = {port}
user = "{user}"
credential = "vc"
thumbprint = "{thumbprint}"
"""
NOWHERE = "127.0.0.1:1"
"""An address where no server can be."""
PASSPHRASE = "correct horse"
CLEAN = dict.fromkeys(("HOLDFAST_HOME", "HOLDFAST_CONFIG", "TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE"))


class Place:
    """A folder with a configuration, a provider, a repository and a credential called ``night``."""

    def __init__(self, root: Path, address: str = NOWHERE) -> None:
        self.root = root
        self.config = root / "holdfast.toml"
        patience = 0.5 if address == NOWHERE else 30.0
        self.config.write_text(CONFIGURATION.format(address=address, patience=patience))
        folder = root / "home" / "credentials"
        folder.mkdir(parents=True)
        self.write_credential("night", PASSPHRASE)
        self.clock = SystemClock()
        self.provider = LocalProvider.create(root / "lab", self.clock)
        self.repository = Repository.create(root / "repository", HostFiles(), "ab" * 16, self.clock.now())

    def add_vcenter(self, address: VCenterAddress | None = None) -> None:
        """Add a provider called vc of kind vsphere to the configuration; without an address nobody answers there."""
        url = urlsplit("https://127.0.0.1:1" if address is None else address.url)
        user, password, thumbprint = "root", PASSPHRASE, "ab" * 32
        if address is not None:
            user, password, thumbprint = address.user, address.password, address.thumbprint_sha256
        table = VCENTER.format(host=url.hostname, port=url.port, user=user, thumbprint=thumbprint)
        before, heading, behind = self.config.read_text().partition("[[repositories]]")
        self.config.write_text(before + table + heading + behind)
        self.write_credential("vc", password)

    def write_credential(self, name: str, secret: str) -> None:
        """Write a credential that only its owner can read."""
        file = self.root / "home" / "credentials" / name
        file.touch(0o600)
        file.write_text(secret + "\n")

    def add_second_credential(self, name: str) -> None:
        """Let the job encrypt with `night`, and another one of the same repository with a credential that is made."""
        self.write_credential(name, f"the passphrase {name}")
        job = f'[[jobs]]\nname = "b"\nprovider = "lab"\nrepository = "main"\nproxy = "p1"\ncredential = "{name}"\n'
        self.config.write_text(f'{self.config.read_text()}credential = "night"\n{job}')

    @property
    def settings(self) -> Settings:
        """Return the settings as the program reads them."""
        return load_settings(self.config, {})

    def add_machine(self, name: str, seed: int, size_bytes: int = 1 << 20) -> bytes:
        """Register a machine with one disk called boot and return the disk's content."""
        content = random.Random(seed).randbytes(size_bytes)
        disk = self.root / f"{name}.raw"
        disk.write_bytes(content)
        self.provider.add_machine(name, {DiskKey("boot"): disk})
        return content

    def run(self, *words: str, environment: Mapping[str, str | None] | None = None) -> Result:
        """Call the program."""
        return call(*words, "--config", str(self.config), environment=environment)

    def json(self, *words: str, status: int = 0) -> Any:
        """Call the program with ``--json`` and return the one document it writes."""
        return one_document(self.run(*words, "--json"), status)


def call(*words: str, environment: Mapping[str, str | None] | None = None) -> Result:
    """Call the program without any configuration."""
    return CliRunner(env={**CLEAN, **(environment or {})}).invoke(app, list(words), catch_exceptions=False)


def one_document(result: Result, status: int = 0) -> Any:
    """Return the document on standard output; there is exactly one."""
    assert result.exit_code == status, result.output
    return msgspec.json.decode(result.stdout)
