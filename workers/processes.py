"""Processes that outlive their starter, and how to recognise one again.

A process id alone proves nothing: the kernel gives it to another process after the first has ended.
The moment of birth, counted in clock ticks of one boot of the host, makes it unique; signals go
through a process descriptor, so that no other process can be hit between looking and killing. Linux
only.
"""

import contextlib
import os
import select
import signal
from pathlib import Path

import msgspec

from holdfast.errors import ServerUnavailable

_KILL_DEADLINE_S = 10.0


class ProcessMark(msgspec.Struct, frozen=True, kw_only=True):
    """A process, told apart from every later one with its id."""

    pid: int
    started: str
    """Boot of the host and ticks since then, opaque."""


def spawn_detached(command: list[str], log: Path) -> ProcessMark:
    """Start ``command`` in a session of its own, with both outputs appended to ``log``.

    The terminal's interrupt and hang-up do not reach it. Its environment is empty, so that settings
    meant for the starter cannot change what it does. Raises OSError when the program cannot be
    executed.
    """
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        pid = os.posix_spawn(
            command[0],
            command,
            {},
            setsid=True,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
        )
    finally:
        os.close(output)
    born = _born(pid)
    assert born is not None, "an unreaped child has an entry in /proc"
    return ProcessMark(pid=pid, started=born[0])


def is_alive(mark: ProcessMark) -> bool:
    """Return whether exactly this process still runs; an ended child of ours is reaped."""
    born = _born(mark.pid)
    if born is None or born[0] != mark.started:
        return False
    if born[1] not in {"Z", "X"}:
        return True
    with contextlib.suppress(ChildProcessError):  # not our child: its own parent reaps it
        os.waitpid(mark.pid, os.WNOHANG)
    return False


def end_process(mark: ProcessMark, how: signal.Signals, *, deadline_s: float) -> None:
    """Send ``how`` and wait until the process is gone; kill it when it outlives ``deadline_s``.

    Does nothing when it has ended already. Raises ServerUnavailable when even killing did not
    end it.
    """
    try:
        descriptor = os.pidfd_open(mark.pid)
    except ProcessLookupError:
        return
    try:
        # The descriptor is held: from here on the id cannot change its owner unnoticed.
        if not is_alive(mark):
            return
        for sent, patience_s in ((how, deadline_s), (signal.SIGKILL, _KILL_DEADLINE_S)):
            with contextlib.suppress(ProcessLookupError):  # ended by itself meanwhile
                signal.pidfd_send_signal(descriptor, sent)
            if select.select([descriptor], [], [], patience_s)[0]:
                is_alive(mark)
                return
    finally:
        os.close(descriptor)
    message = f"process {mark.pid} does not end, not even when killed"
    raise ServerUnavailable(message, hint="It hangs in the kernel; check the host's storage.")


def _born(pid: int) -> tuple[str, str] | None:
    """Return mark and state letter of the process with this id now; None when there is none."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    # The name of the program stands in parentheses and may hold anything; what follows is numbered
    # from field 3.
    fields = status.rpartition(")")[2].split()
    return f"{boot}/{fields[19]}", fields[0]
