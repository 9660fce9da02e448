"""Commands and waits of the demonstration."""

from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import SessionFailed
from workers.demo.crew import Command, Crew, chain_files, end_commands, wait_until_written
from workers.demo.hypervisors import LocalHypervisor
from workers.demo.place import DemoPlace, prepare_place, write_configuration
from workers.loopback import LOOPBACK, free_ports


@pytest.fixture
def place(tmp_path: Path) -> DemoPlace:
    made = prepare_place(tmp_path / "demo")
    # One test starts a server there; where nobody is in tests of others has to stay so.
    write_configuration(made, f"{LOOPBACK}:{free_ports(1)[0]}", "holdfast", LocalHypervisor(made, SystemClock()).table)
    return made


def test_a_command_gives_its_document(place: DemoPlace) -> None:
    found = Command(place, "repository", "create", "vault").result()
    assert found
    assert (place.repository / "repository.json").exists()


def test_a_failed_command_says_what_it_said(place: DemoPlace) -> None:
    with pytest.raises(SessionFailed, match="repository-not-found"):
        Command(place, "repository", "create", "nowhere").result()


def test_the_wait_ends_when_a_new_file_is_large_enough(place: DemoPlace) -> None:
    folder = place.repository / "machines" / "web" / "chain"
    folder.mkdir(parents=True)
    (folder / "00000001-full.hfc").write_bytes(bytes(2000))
    known = chain_files(place.repository)
    command = Command(place, "machines", "--provider", "nowhere")
    assert not wait_until_written(place.repository, known, 1000, command)
    with pytest.raises(SessionFailed, match="configuration-invalid"):
        command.result()
    running = Command(place, "dev", "start")
    (folder / "00000002-increment.hfc").write_bytes(bytes(1000))
    try:
        assert wait_until_written(place.repository, known, 1000, running)
    finally:
        running.result()
        Command(place, "dev", "stop").result()


def test_leaving_a_crew_ends_the_commands_that_nobody_waited_for(place: DemoPlace) -> None:
    with Crew(place, SystemClock()):
        forgotten = Command(place, "repository", "create", "vault")
        known = Command(place, "machines", "--provider", "nowhere")
        with pytest.raises(SessionFailed, match="configuration-invalid"):
            known.result()
    assert not forgotten.is_running()
    end_commands(place)  # nothing is left to end
