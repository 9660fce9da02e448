"""Upkeep: complete what was interrupted half-way, and remove what dead operations left behind.

Everything is done under the lock of the operation that would have made it, so what a living operation
works on is never touched.
"""

from pathlib import Path

import msgspec

from holdfast.errors import SourceError
from holdfast.model.ids import MachineId
from holdfast.providers.local.files import (
    leftovers,
    os_errors,
    remove_tree,
    visible_folders,
)
from holdfast.providers.local.locks import INVENTORY, Locks
from holdfast.providers.local.machines import Machines
from holdfast.providers.local.replacement import intent_path, pending_intents
from holdfast.providers.local.root import Root
from holdfast.providers.local.targets import TargetStore


class Sweeper(msgspec.Struct, frozen=True, kw_only=True):
    """One sweep over one root."""

    root: Root
    locks: Locks
    machines: Machines
    targets: TargetStore

    def sweep(self) -> list[str]:
        """Do it, and return in words what was done."""
        done = [line for m in pending_intents(self.root) for line in self._complete(m)]
        with self.locks.hold(INVENTORY, "the inventory"):
            done += _removed(leftovers(self.root.machines))
            done += [f"removed {path}" for path in self.targets.clean()]
        for machine_id, folders in sorted(self._machine_folders().items()):
            with self.locks.try_hold(machine_id) as is_free:
                if is_free:
                    done += _removed([path for folder in folders for path in leftovers(folder)])
                    done += _removed(leftovers(self.root.commits, intent_path(self.root, machine_id)))
        return done

    def _complete(self, machine_id: MachineId) -> list[str]:
        with self.locks.try_hold(machine_id) as is_free:
            file = self.targets.interrupted(machine_id) if is_free else None
            if file is None:
                return []
            self.targets.commit_replacing(file)
            return [f"completed target {file.target.target_id} of machine {machine_id}"]

    def _machine_folders(self) -> dict[MachineId, list[Path]]:
        """Return every folder that is changed under a machine's lock, by machine."""
        found: dict[MachineId, list[Path]] = {}
        for part in (self.root.snapshots, self.root.tracking):
            for folder in visible_folders(part):
                found.setdefault(MachineId(folder.name), []).append(folder)
        for record in self.machines.scan()[0]:
            found.setdefault(record.file.id, []).append(record.folder)
        return found


def _removed(paths: list[Path]) -> list[str]:
    for path in paths:
        with os_errors(SourceError, f"removing {path}"):
            remove_tree(path)
    return [f"removed {path}" for path in paths]
