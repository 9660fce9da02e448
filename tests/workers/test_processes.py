"""Detached processes, and how they are told from later ones with their id."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from workers.processes import ProcessMark, end_process, is_alive, spawn_detached

WAIT = "import signal, sys; print('ready', flush=True); signal.pause()"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAIT}"


def spawn(script: str, folder: Path) -> ProcessMark:
    """Start a script and return when it has said that it is ready."""
    log = folder / "log"
    os.mkfifo(log)
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    mark = spawn_detached([sys.executable, "-c", script], log)
    with open(reader, encoding="utf-8") as lines:  # noqa: PTH123 - a descriptor
        assert lines.readline() == "ready\n"
    return mark


def test_a_spawned_process_is_alive_until_it_is_ended(tmp_path: Path) -> None:
    mark = spawn(WAIT, tmp_path)
    assert is_alive(mark)
    end_process(mark, signal.SIGTERM, deadline_s=10)
    assert not is_alive(mark)


def test_ending_a_process_leaves_no_zombie(tmp_path: Path) -> None:
    mark = spawn(WAIT, tmp_path)
    end_process(mark, signal.SIGKILL, deadline_s=10)
    with pytest.raises(ChildProcessError):
        os.waitpid(mark.pid, os.WNOHANG)


def test_a_process_that_ignores_the_request_is_killed(tmp_path: Path) -> None:
    mark = spawn(STUBBORN, tmp_path)
    end_process(mark, signal.SIGTERM, deadline_s=0.1)
    assert not is_alive(mark)


def test_ending_an_ended_process_does_nothing(tmp_path: Path) -> None:
    mark = spawn(WAIT, tmp_path)
    end_process(mark, signal.SIGKILL, deadline_s=10)
    end_process(mark, signal.SIGKILL, deadline_s=10)


def test_a_process_with_a_reused_id_is_neither_alive_nor_ended() -> None:
    # Our own process plays the one that was given the id of an earlier server.
    mark = ProcessMark(pid=os.getpid(), started="another boot/1")
    assert not is_alive(mark)
    end_process(mark, signal.SIGKILL, deadline_s=10)


def test_the_child_of_somebody_else_is_seen_to_end(tmp_path: Path) -> None:
    # The spawner reaps its child; we only know the mark.
    program = (
        "import sys, msgspec, pathlib, signal; from workers.processes import *\n"
        f"mark = spawn_detached([sys.executable, '-c', 'import signal; signal.pause()'],"
        f" pathlib.Path({str(tmp_path / 'log')!r}))\n"
        "sys.stdout.write(msgspec.json.encode(mark).decode())\n"
    )
    root = Path(__file__).resolve().parents[2]
    answer = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, check=True)
    mark = msgspec.json.decode(answer.stdout, type=ProcessMark)
    assert is_alive(mark)
    end_process(mark, signal.SIGKILL, deadline_s=10)
    assert not is_alive(mark)


def test_a_spawned_process_has_its_own_session_and_no_environment(tmp_path: Path) -> None:
    mark = spawn(WAIT, tmp_path)
    try:
        assert os.getsid(mark.pid) == mark.pid
        assert Path(f"/proc/{mark.pid}/environ").read_bytes() == b""
    finally:
        end_process(mark, signal.SIGKILL, deadline_s=10)


def test_a_program_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        spawn_detached([str(tmp_path / "missing")], tmp_path / "log")
