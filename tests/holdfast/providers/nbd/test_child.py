"""Child processes: their last words, and that they never outlive us."""

import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from holdfast.providers.nbd.child import Child

PATIENCE_S = 20.0


def shell(script: str) -> Child:
    return Child(["/bin/sh", "-c", script])


def test_the_end_is_noticed_and_the_last_lines_are_kept() -> None:
    child = shell("for i in 1 2 3 4 5; do echo line $i >&2; done; echo; exit 3")
    assert child.wait(PATIENCE_S)
    assert not child.is_alive
    assert child.last_lines() == ["line 3", "line 4", "line 5"]


def test_words_are_there_while_the_process_runs() -> None:
    child = shell("echo careful >&2; echo ready; exec sleep 60")
    while not child.last_lines():
        assert not child.wait(0.01)
    assert child.last_lines() == ["careful"]
    assert child.end(signal.SIGTERM, PATIENCE_S)


def test_a_talkative_child_is_neither_blocked_nor_kept_in_memory() -> None:
    child = shell("i=0; while [ $i -lt 20000 ]; do echo some words about nothing $i; i=$((i+1)); done >&2")
    assert child.wait(PATIENCE_S)
    assert child.last_lines()[-1] == "some words about nothing 19999"
    assert len(child._tail) <= 16 << 10


def test_a_child_that_closes_its_error_output_is_still_watched() -> None:
    child = shell("exec 2>&-; exec sleep 60")
    assert not child.wait(0.05)
    assert child.end(signal.SIGTERM, PATIENCE_S)
    assert child.last_lines() == []


def test_a_grandchild_that_keeps_the_pipe_does_not_hide_the_end() -> None:
    child = shell("sleep 60 & echo $! >&2")
    assert child.wait(PATIENCE_S)
    [grandchild] = child.last_lines()
    os.kill(int(grandchild), signal.SIGKILL)


def test_a_child_that_ignores_a_signal_is_still_there() -> None:
    child = shell("trap '' TERM; echo ready >&2; while :; do sleep 60; done")
    while not child.last_lines():
        assert not child.wait(0.01)
    assert not child.end(signal.SIGTERM, 0.05)
    assert child.is_alive
    os.killpg(child.pid, signal.SIGKILL)
    assert child.wait(PATIENCE_S)
    assert child.end(signal.SIGKILL, 0)


def test_a_program_that_cannot_be_run_is_an_error_at_once() -> None:
    before = threading.active_count()
    with pytest.raises(FileNotFoundError):
        Child(["/nonexistent/program"])
    with pytest.raises(ValueError, match="null byte"):
        Child(["/bin/true", "\0"])
    assert threading.active_count() == before


def test_our_environment_does_not_reach_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    child = shell("env | sort >&2")
    assert child.wait(PATIENCE_S)
    assert not [line for line in child.last_lines() if "elsewhere" in line]


@pytest.mark.tools("nbdkit")
def test_nbdkit_ends_when_its_starter_is_killed(tmp_path: Path, child_environment: dict[str, str]) -> None:
    script = (
        "import sys\n"
        "from holdfast.providers.nbd.server import NbdServer, ServerPlan\n"
        "server = NbdServer(ServerPlan(plugin=('memory', '1M')))\n"
        "server.start()\n"
        "print(server.pid, server.socket_path, flush=True)\n"
        "sys.stdin.read()\n"
    )
    environment = child_environment | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    ) as starter:
        assert starter.stdout is not None
        pid, socket_path = starter.stdout.readline().split()
        descriptor = os.pidfd_open(int(pid))
        assert Path(socket_path).is_socket()
        starter.kill()
    try:
        assert select.select([descriptor], [], [], PATIENCE_S)[0]
    finally:
        os.close(descriptor)
