"""The movers of repositories answer, could listen here, or are out of reach."""

import socket
import threading
from pathlib import Path

from holdfast.clock import SystemClock
from holdfast.model.ids import RepositoryName
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from tests.workers.cli.place import Place
from workers.cli.checks import Finding, Level
from workers.cli.invocation import Flags, Invocation
from workers.cli.mover_checks import _silent, check_movers
from workers.loopback import LOOPBACK, free_ports
from workers.mover_settings import MoverPlace
from workers.movers import Movers
from workers.repository_settings import RepositorySettings

NOBODY = "192.0.2.1"
"""An address that belongs to nobody (RFC 5737)."""


def with_mover(place: Place, address: str, more: str = "") -> None:
    text = place.config.read_text()
    text = text.replace('path = "repository"\n', f'path = "repository"\nmover = "{address}"\n')
    place.config.write_text(text + more)


def findings(place: Place) -> list[Finding]:
    return list(check_movers(Invocation(Flags(config=place.config))))


def close_the_next(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    connection.close()


def test_a_repository_without_a_mover_is_passed_over(place: Place) -> None:
    assert findings(place) == []


def test_a_mover_that_serves_answers(place: Place) -> None:
    [port] = free_ports(1)
    with_mover(place, f"{LOOPBACK}:{port}")
    settings = place.settings

    def opened(name: RepositoryName) -> Repository:
        return Repository.open(settings.repository(name).path, HostFiles())

    movers = Movers(settings, opened, settings.credentials.passphrase, SystemClock())
    with movers.serving([RepositoryName("main")]):
        (finding,) = findings(place)
    assert (finding.check, finding.level, finding.text) == (
        "mover main",
        Level.OK,
        f"answers at {LOOPBACK}:{port}, 5 connections for each disk",
    )


def test_a_mover_that_is_not_started_is_a_warning(place: Place) -> None:
    [port] = free_ports(1)
    with_mover(place, f"{LOOPBACK}:{port}")
    (finding,) = findings(place)
    assert finding.level is Level.WARN
    assert finding.hint == "Start `holdfast worker repository --name main`."


def test_where_it_could_listen_is_looked_for_behind_what_forwards_to_it(place: Place) -> None:
    named, listened = free_ports(2)
    with_mover(place, f'{LOOPBACK}:{named}"\nmover_listen = "{LOOPBACK}:{listened}')
    (finding,) = findings(place)
    assert (finding.level, finding.text) == (
        Level.WARN,
        f"no mover answers at {LOOPBACK}:{named}, where one could listen",
    )
    with socket.create_server((LOOPBACK, listened)):
        (finding,) = findings(place)
    assert (finding.level, finding.code) == (Level.FAIL, "link-failed")


def test_somebody_else_at_the_address_fails(place: Place) -> None:
    with socket.create_server((LOOPBACK, 0)) as stranger:
        with_mover(place, f"{LOOPBACK}:{stranger.getsockname()[1]}")
        closer = threading.Thread(target=close_the_next, args=(stranger,))
        closer.start()
        (finding,) = findings(place)
        closer.join()
    assert (finding.level, finding.code) == (Level.FAIL, "link-failed")


def test_an_address_of_another_host_where_nobody_answers_fails() -> None:
    error = ConnectionRefusedError(111, "connection refused")
    settings = RepositorySettings(name=RepositoryName("main"), path=Path("main"), mover=f"{NOBODY}:9440")
    finding = _silent("mover main", settings, MoverPlace.parse(f"{NOBODY}:9440"), error)
    assert (finding.level, finding.code) == (Level.FAIL, "link-failed")
    assert finding.text == f"no mover answers at {NOBODY}:9440: connection refused"
    assert "on the host of the repository" in finding.hint


def test_with_certificates_that_cannot_be_used_no_mover_is_tried_and_nothing_is_told_twice(place: Place) -> None:
    certificates = '[mover]\nca_file = "ca.pem"\ncertificate = "c.pem"\nkey = "c.key"\n'
    with_mover(place, f"{NOBODY}:9440", certificates)
    assert findings(place) == []
