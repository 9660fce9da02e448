"""A worker serves a role of the configuration until it is told to stop."""

import signal
import socket
import subprocess
import sys

import pytest

from holdfast.errors import ConfigurationInvalid, RepositoryNotFound, RequestInvalid
from tests.workers.cli.place import Place
from workers.devserver import DevServerAddress

PROGRAM = [sys.executable, "-c", "from workers.cli.main import main; main()"]


@pytest.mark.parametrize(
    "words, status",
    [
        (("boss",), RequestInvalid.exit_status),
        (("control", "--name", "x"), RequestInvalid.exit_status),
        (("all", "--name", "x"), RequestInvalid.exit_status),
        (("proxy", "--name", "x"), ConfigurationInvalid.exit_status),
        (("repository", "--name", "x"), RepositoryNotFound.exit_status),
    ],
)
def test_what_nobody_can_serve_is_refused(place: Place, words: tuple[str, ...], status: int) -> None:
    assert place.json("worker", *words, status=status)["error"]


def test_a_role_without_anything_to_serve_is_refused(place: Place) -> None:
    place.config.write_text("")
    assert place.json("worker", "proxy", status=RequestInvalid.exit_status)["error"]


def test_an_address_for_metrics_that_is_taken_is_named(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        command = [*PROGRAM, "worker", "control", "--metrics", address, "--config", str(place.config), "--json"]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == ConfigurationInvalid.exit_status
    assert f"metrics cannot be served at {address}" in result.stdout


@pytest.mark.temporal
def test_it_serves_until_told_to_stop(dev_server: DevServerAddress, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = Place(tmp_path_factory.mktemp("worker"), dev_server.grpc)
    ready = place.root / "ready"
    command = [*PROGRAM, "worker", "repository", "--ready-file", str(ready), "--config", str(place.config), "--json"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert "ready" in process.stderr.readline()
        assert ready.exists()
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert '"state": "stopped"' in out
        assert not ready.exists()
    finally:
        process.kill()
        process.communicate()
