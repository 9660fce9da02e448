"""A child process whose last words are kept, and that cannot outlive this process.

The kernel tells a child of its parent's death when the *thread* that started it ends. A thread of its own therefore
starts the process and lives as long as the process does.
"""

import os
import select
import signal
import subprocess
import threading
from collections.abc import Sequence
from typing import Final

_TAIL_BYTES_MAX: Final = 16 << 10
_LINES_MAX: Final = 3
_LINE_CHARACTERS_MAX: Final = 400
_ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}
"""What configures this process or its interpreter must not reach a plugin."""


class Child:
    """A running program with its standard error on a pipe. The constructor raises what `subprocess` does."""

    def __init__(self, command: Sequence[str]) -> None:
        self._tail = b""
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._pipe, self._far_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self._far_end, True)
        self._process: subprocess.Popen[bytes] | None = None
        self._failure: OSError | ValueError | None = None
        started = threading.Event()
        self._keeper = threading.Thread(target=self._keep, args=(command, started), name="nbdkit", daemon=True)
        self._keeper.start()
        started.wait()
        if self._process is None:
            self._keeper.join()
            self._raise_failure()

    @property
    def pid(self) -> int:
        """Id of the process."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return not self._ended.is_set()

    def wait(self, patience_s: float) -> bool:
        """Return whether the process ended within ``patience_s``."""
        return self._ended.wait(patience_s)

    def end(self, how: signal.Signals, patience_s: float) -> bool:
        """Send a signal and return whether the process ended within ``patience_s``."""
        assert self._process is not None
        self._process.send_signal(how)
        return self._ended.wait(patience_s)

    def last_lines(self) -> list[str]:
        """Return the last lines of its standard error, all that it wrote before this call included."""
        with self._lock:
            self._drain()
            text = self._tail.decode("utf-8", "replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return [line[:_LINE_CHARACTERS_MAX] for line in lines[-_LINES_MAX:]]

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _keep(self, command: Sequence[str], started: threading.Event) -> None:
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._far_end,
                env=_ENVIRONMENT,
                start_new_session=True,  # an interrupt of the terminal is for us; we end the child
            )
        except (OSError, ValueError) as error:
            self._failure = error
            os.close(self._pipe)
            return
        finally:
            os.close(self._far_end)
            started.set()
        self._listen(self._process)

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        """Keep the pipe empty until the process ends."""
        descriptor = os.pidfd_open(process.pid)
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            poll.register(self._pipe, select.POLLIN)
            while True:
                ready = {number for number, _ in poll.poll()}
                with self._lock:
                    is_open = self._drain()
                if descriptor in ready:
                    break
                if not is_open:
                    poll.unregister(self._pipe)
        finally:
            os.close(descriptor)
            process.wait()
            with self._lock:
                self._drain()
                os.close(self._pipe)
                self._pipe = -1
            self._ended.set()

    def _drain(self) -> bool:
        """Take what the pipe holds; False at its end."""
        while self._pipe >= 0:
            try:
                data = os.read(self._pipe, _TAIL_BYTES_MAX)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._tail = (self._tail + data)[-_TAIL_BYTES_MAX:]
        return False
