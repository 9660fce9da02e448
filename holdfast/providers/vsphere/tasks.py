"""Waiting for tasks of vSphere."""

import threading
from typing import Any, Final

from pyVmomi import vim

from holdfast.clock import Clock
from holdfast.errors import HoldfastError, MachineNotFound, ProviderUnavailable
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.faults import error_of
from holdfast.providers.vsphere.properties import read

_FIRST_PAUSE_S: Final = 0.02
_PAUSE_MAX_S: Final = 2.0
# Never `info` as a whole: for some tasks its entity is of a kind that pyVmomi refuses.
_LEAVES: Final = ("info.state", "info.result", "info.error")


def wait(connection: Connection, clock: Clock, task: Any, what: str, patience_s: float) -> Any:
    """Return the result of a task, or raise its fault as an error that names ``what`` was done.

    Raises `ProviderUnavailable` when the task has not ended after ``patience_s``: it may still end, so whoever
    repeats the operation looks first whether it was done. A vCenter that was restarted has forgotten its tasks; that
    is `ProviderUnavailable` too.
    """
    pause, wait_s = threading.Event(), _FIRST_PAUSE_S
    deadline_s = clock.monotonic_s() + patience_s
    while True:
        values = _look(connection, task, what)
        match values.get("info.state"):
            case vim.TaskInfo.State.success:
                return values.get("info.result")
            case vim.TaskInfo.State.error:
                raise _failure(values.get("info.error"), f"{connection.endpoint.label}: {what}")
            case _:
                pass
        if clock.monotonic_s() >= deadline_s:
            raise ProviderUnavailable(
                f"{connection.endpoint.label}: {what}: task {task._moId} has not ended after {patience_s:.0f} s",
                hint="Look at the task in the vSphere Client; the session looks for its outcome when it is repeated.",
            )
        pause.wait(wait_s)
        wait_s = min(wait_s * 1.5, _PAUSE_MAX_S)


def _look(connection: Connection, task: Any, what: str) -> dict[str, Any]:
    try:
        return read(connection, task, *_LEAVES)
    except MachineNotFound as error:
        raise ProviderUnavailable(
            f"{connection.endpoint.label}: {what}: the vCenter has forgotten task {task._moId}"
        ) from error


def _failure(fault: Exception | None, what: str) -> HoldfastError:
    return ProviderUnavailable(f"{what}: the task failed without a reason") if fault is None else error_of(fault, what)
