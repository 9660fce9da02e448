"""Bringing existing raw disks under the provider as a new machine."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from holdfast.errors import RequestInvalid, TargetExists
from holdfast.model.ids import DiskKey, MachineId, folder_name
from holdfast.model.machine import Machine, PowerState
from holdfast.providers.checks import check_keys
from holdfast.providers.local.cloning import copy_sparse, reflink
from holdfast.providers.local.files import building, os_errors, write_json
from holdfast.providers.local.machines import (
    MACHINE_FILE,
    MachineFile,
    Machines,
    Registered,
    checked_name,
    new_uuid,
    plain_disks,
)
from holdfast.providers.local.root import Root


class NewMachine(msgspec.Struct, frozen=True, kw_only=True):
    """A machine to register; with ``copy`` its disks are copied in, else used in place."""

    name: str
    disks: Mapping[DiskKey, Path]
    power: PowerState
    copy: bool


def register(root: Root, machines: Machines, new: NewMachine) -> Machine:
    """Make the machine's folder, complete or not at all. Needs the inventory lock."""
    if machines.name_is_taken(checked_name(new.name)):
        raise TargetExists(f"a machine is called {new.name!r} already")
    check_keys(list(new.disks), f"machine {new.name!r}", RequestInvalid)
    machine_id = MachineId(new_uuid())
    folder = root.machines / folder_name(new.name, machine_id)
    with os_errors(RequestInvalid, f"registering machine {new.name!r}"), building(folder) as making:
        file = MachineFile(
            id=machine_id,
            name=new.name,
            power=new.power,
            disks=plain_disks(_bring_in(new, making)),
        )
        machine = machines.describe(Registered(making, file))
        write_json(making / MACHINE_FILE, file)
    return machine


def _bring_in(new: NewMachine, making: Path) -> dict[DiskKey, str]:
    if not new.copy:
        return {key: str(path.absolute()) for key, path in new.disks.items()}
    names = {key: f"disk-{index}.raw" for index, key in enumerate(new.disks)}
    for key, path in new.disks.items():
        _copy(path, making / names[key])
    return names


def _copy(path: Path, copied: Path) -> None:
    with path.open("rb") as source, copied.open("xb") as target:
        if not reflink(source.fileno(), target.fileno()):
            copy_sparse(source.fileno(), target.fileno())
        os.fsync(target.fileno())
