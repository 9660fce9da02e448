"""Threads that a host may refuse."""

import errno
import threading


def try_start(thread: threading.Thread) -> None:
    """Start a thread. Raises `OSError` when this host has no room for another one."""
    try:
        thread.start()
    except RuntimeError as error:  # what Python makes of it
        raise OSError(errno.EAGAIN, f"no thread can be started: {error}") from error
