"""The development server is started where the configuration says Temporal is."""

import signal
import subprocess
import sys

import pytest

from holdfast.errors import ConfigurationInvalid
from tests.workers.cli.place import Place
from workers.devserver import DevServer
from workers.loopback import free_ports, is_served

PROGRAM = [sys.executable, "-c", "from workers.cli.main import main; main()"]


def test_a_server_elsewhere_is_not_ours_to_start(place: Place) -> None:
    place.config.write_text('[temporal]\naddress = "cluster.example:7233"\n')
    error = place.json("dev", "start", status=ConfigurationInvalid.exit_status)["error"]
    assert "cluster.example:7233" in error["message"]


def test_a_server_that_never_was_does_not_run(place: Place) -> None:
    assert place.json("dev", "status")["state"] == "stopped"
    assert place.json("dev", "stop") == {"state": "stopped", "was_running": False}
    assert place.run("dev", "status").stdout == "the development server does not run\n"


@pytest.mark.temporal
def test_start_status_and_stop(place: Place) -> None:
    port = free_ports(1)[0]
    place.config.write_text(place.config.read_text().replace("127.0.0.1:1", f"127.0.0.1:{port}"))
    try:
        started = place.json("dev", "start", "--headless")
        assert started["address"] == {"grpc": f"127.0.0.1:{port}", "ui": None, "namespace": "holdfast"}
        assert place.json("dev", "start") == started
        assert place.json("dev", "status")["state"] == "running"
        assert f"listens at 127.0.0.1:{port}" in place.run("dev", "status").stdout
        assert place.json("dev", "stop")["was_running"] is True
        assert not is_served(port)
    finally:
        DevServer(place.settings.dev_server_folder).kill()


@pytest.mark.temporal
def test_in_the_foreground_it_serves_until_interrupted(place: Place) -> None:
    port = free_ports(1)[0]
    place.config.write_text(place.config.read_text().replace("127.0.0.1:1", f"127.0.0.1:{port}"))
    command = [*PROGRAM, "dev", "--headless", "--config", str(place.config)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert "interrupt to stop" in process.stderr.readline()
        assert is_served(port)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
        assert (process.returncode, out) == (0, "the development server has stopped\n")
        assert not is_served(port)
    finally:
        process.kill()
        process.communicate()
        DevServer(place.settings.dev_server_folder).kill()
