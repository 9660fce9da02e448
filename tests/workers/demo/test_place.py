"""The demonstration's folder is a complete installation."""

from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import RequestInvalid
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.testing.images import FileSystem
from workers.config import load_settings
from workers.demo.disks import DemoDisk
from workers.demo.place import JOB, PROVIDER, PROXY, REPOSITORY, prepare_place, register_machines, write_configuration


def test_the_configuration_is_one_the_program_takes(tmp_path: Path) -> None:
    place = prepare_place(tmp_path / 'odd "name"')
    write_configuration(place, "127.0.0.1:7233", "holdfast")
    settings = load_settings(place.config, {})
    job = settings.job(JOB)
    assert (job.provider, job.proxy, job.repository) == (PROVIDER, PROXY, REPOSITORY)
    assert settings.temporal.address == "127.0.0.1:7233"
    assert job.credential is not None
    assert len(settings.credentials.passphrase(job.credential) or "") > 20


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter").touch()
    with pytest.raises(RequestInvalid, match="letter"):
        prepare_place(tmp_path)


def test_machines_use_the_disks_where_they_are(tmp_path: Path) -> None:
    place = prepare_place(tmp_path / "demo")
    disks = []
    for machine, key in (("web01", "a"), ("web01", "b"), ("db01", "a")):
        path = place.disks / f"{machine}-{key}.raw"
        path.write_bytes(bytes(4096))
        disks.append(
            DemoDisk(machine=machine, key=key, path=path, file_system=FileSystem.EXT4, size_bytes=4096, describes="")
        )
    register_machines(place, disks, SystemClock())
    provider = LocalProvider(place.provider, SystemClock())
    assert {m.name: [d.key for d in m.disks] for m in provider.machines()} == {"web01": ["a", "b"], "db01": ["a"]}
    assert provider.disk_paths("db01") == {"a": disks[2].path}
