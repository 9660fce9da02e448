"""The demonstration's folder is a complete installation."""

from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import RequestInvalid
from workers.config import load_settings
from workers.demo.hypervisors import LocalHypervisor
from workers.demo.place import JOB, PROVIDER, PROXY, REPOSITORY, prepare_place, write_configuration


def test_the_configuration_is_one_the_program_takes(tmp_path: Path) -> None:
    place = prepare_place(tmp_path / 'odd "name"')
    write_configuration(place, "127.0.0.1:7233", "holdfast", LocalHypervisor(place, SystemClock()).table)
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
