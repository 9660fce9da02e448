"""A place whose proxy reaches the repository through its data mover alone, as from another host."""

import json
from pathlib import Path
from typing import Any

from holdfast.clock import SystemClock
from holdfast.model.ids import DiskKey
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from workers.demo.crew import Command
from workers.demo.disks import sha256_of
from workers.demo.place import JOB, DemoPlace, prepare_place

MACHINE = "web01"
DISK = DiskKey("data")


def give_mover(place: DemoPlace, address: str, listen: str = "") -> None:
    """Let the repository have a mover at an address, which may listen at another one, and the job one machine."""
    path = f"path = {json.dumps(str(place.repository))}"
    mover = f'mover = "{address}"' + (f'\nmover_listen = "{listen}"' if listen else "")
    told = place.config.read_text("utf-8").replace('"web01", "db01"', f'"{MACHINE}"')
    place.config.write_text(told.replace(path, f"{path}\n{mover}"), encoding="utf-8")


def elsewhere_of(place: DemoPlace, name: str = "elsewhere") -> DemoPlace:
    """Return the place of a proxy that has the address of the mover alone: no passphrase, and no folder."""
    far = prepare_place(place.root / name)
    told = place.config.read_text("utf-8")
    for ours, theirs in ((place.home, far.home), (place.repository, far.repository)):
        told = told.replace(f"= {json.dumps(str(ours))}\n", f"= {json.dumps(str(theirs))}\n")
    far.config.write_text(told, encoding="utf-8")
    assert not far.repository.exists()
    assert not list((far.home / "credentials").iterdir())
    return far


def make_machine(place: DemoPlace, content: bytes) -> Path:
    """Make the machine with one disk, and the repository; return the disk."""
    disk = place.disks / "data.raw"
    disk.write_bytes(content)
    provider = LocalProvider.create(place.provider, SystemClock())
    provider.add_machine(MACHINE, {DISK: disk})
    Repository.create(place.repository, HostFiles(), "ab" * 16, SystemClock().now())
    return provider.disk_paths(MACHINE)[DISK]


def back_up(place: DemoPlace, *words: str) -> dict[str, Any]:
    """Back everything up; return the document of the session, which succeeds."""
    document = Command(place, "backup", JOB, "--full", *words).result()
    assert document["session"]["outcome"] == "success", document
    return document


def restore(place: DemoPlace, backup: dict[str, Any]) -> dict[str, Any]:
    """Restore the point of a backup to a new machine; every byte is right. Return the document of the session."""
    [point] = backup["points"]
    provider = LocalProvider(place.provider, SystemClock())
    name = f"restored-{point['point_id'][:12]}"
    document = Command(place, "restore", point["point_id"], "--as", name).result()
    assert document["session"]["outcome"] == "success", document
    restored = provider.disk_paths(name)[DISK]
    assert sha256_of(restored) == sha256_of(provider.disk_paths(MACHINE)[DISK])
    restored.unlink()
    return document
