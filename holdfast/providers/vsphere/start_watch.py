"""Whether a machine was switched on since a rollback of its disks began.

What a machine wrote while it was on must not be taken back by somebody who comes late. The power state is that of this
moment, and events are forgotten after some weeks, so the machine itself remembers: it is told to enter the setup of
its firmware at the next start, which every start takes back, and to whom that is owed is noted on it. This also keeps
a guest from starting on disks that are being written to.
"""

from enum import StrEnum
from typing import Any, Final

from pyVmomi import vim

from holdfast.clock import Clock
from holdfast.model.ids import TargetId
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.labels import SnapshotLabel
from holdfast.providers.vsphere.properties import extra_of, read
from holdfast.providers.vsphere.target_state import WATCH_KEY
from holdfast.providers.vsphere.tasks import wait

IF_IT_WAS_ON: Final = (
    "A machine that was switched on since is left as it is: say by `holdfast provider sweep` with `--keep` or "
    "`--go-back` whether it keeps what it holds now, or gets back what it held before and loses what it wrote."
)
"""What to do about a rollback that did not end."""
_BOOT: Final = "config.bootOptions"
_EXTRA: Final = "config.extraConfig"
_PATIENCE_S: Final = 1800.0


class Watched(StrEnum):
    """What is known of a machine since its protective snapshot was taken."""

    NOT_YET = "not yet"
    """The preparation ended before it was watched, or what was written was given back: there is nothing to undo."""
    OFF = "off"
    """It was off ever since."""
    STARTED = "started"
    """It was switched on, or somebody took the mark away, which nobody can tell apart."""
    UNKNOWN = "unknown"
    """An earlier version of Holdfast took the snapshot and did not watch."""


class StartWatch:
    """Marks machines so that a start shows."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock

    def begin(self, vm: Any, target_id: TargetId) -> None:
        """Mark a machine that is off."""
        spec = vim.vm.ConfigSpec(extraConfig=[_note(target_id)], bootOptions=_boot(is_setup_due=True))
        self._reconfigure(vm, f"watching for a start during rollback {target_id}", spec)

    def state(self, vm: Any, label: SnapshotLabel) -> Watched:
        """Return what is known of a machine since the snapshot with this label was taken."""
        if not label.is_watched:
            return Watched.UNKNOWN
        values = read(self._connection, vm, _EXTRA, _BOOT)
        if extra_of(values, WATCH_KEY) != label.target_id:
            return Watched.NOT_YET
        return Watched.OFF if _is_setup_due(values) else Watched.STARTED

    def ending(self, snapshot: Any) -> Any:
        """Return the change of a machine that ends the watch: the next start is as it was when the snapshot was taken.

        Whoever changes the machine anyway adds to it, so that all of it is done or nothing.
        """
        is_setup_due = _is_setup_due(read(self._connection, snapshot, _BOOT))
        return vim.vm.ConfigSpec(extraConfig=[_note("")], bootOptions=_boot(is_setup_due=is_setup_due))

    def end(self, vm: Any, snapshot: Any) -> None:
        """End the watch of a machine; nothing happens when a revert has ended it."""
        if extra_of(read(self._connection, vm, _EXTRA), WATCH_KEY):
            self._reconfigure(vm, "ending the watch for a start", self.ending(snapshot))

    def _reconfigure(self, vm: Any, what: str, spec: Any) -> None:
        task = self._connection.call(what, lambda: vm.ReconfigVM_Task(spec))
        wait(self._connection, self._clock, task, what, _PATIENCE_S)


def _note(text: str) -> Any:
    return vim.option.OptionValue(key=WATCH_KEY, value=text)


def _boot(*, is_setup_due: bool) -> Any:
    return vim.vm.BootOptions(enterBIOSSetup=is_setup_due)


def _is_setup_due(values: Any) -> bool:
    return bool(getattr(values.get(_BOOT), "enterBIOSSetup", False))
