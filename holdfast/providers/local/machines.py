"""Machine files: one folder per machine with ``machine.json`` and, mostly, its disks.

An operator may write these files by hand, so everything in them is checked, and every complaint
names the machine and the file. A machine whose file cannot be read hides nothing but itself.
"""

import os
import secrets
import stat
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from holdfast.errors import (
    ConfigurationInvalid,
    DiskReadFailed,
    HoldfastError,
    MachineNotFound,
    RequestInvalid,
)
from holdfast.model import machine_files
from holdfast.model.ids import DiskKey, MachineId
from holdfast.model.machine import (
    Disk,
    Machine,
    PowerState,
)
from holdfast.model.machine_files import FileLeftOut, MachineFiles
from holdfast.providers.checks import check_keys, checked_size
from holdfast.providers.local.files import (
    StoredFile,
    os_errors,
    read_json,
    visible_folders,
    write_json,
)
from holdfast.providers.local.root import Root
from holdfast.providers.raw_disks import describe, disk_size

MACHINE_FILE = "machine.json"
NAME_LENGTH_MAX = 255


class DiskEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One disk. ``path`` is relative to the machine's folder, or absolute for a disk elsewhere."""

    key: DiskKey
    path: str


class MachineFile(StoredFile, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Content of ``machine.json``. ``id`` is a UUID in its canonical spelling."""

    id: MachineId
    name: str
    power: PowerState = PowerState.OFF
    disks: tuple[DiskEntry, ...] = ()
    configuration: dict[str, str] = msgspec.field(default_factory=dict)


class Registered(msgspec.Struct, frozen=True):
    """A machine file and the folder it stands in."""

    folder: Path
    file: MachineFile

    @property
    def label(self) -> str:
        """Name, id and file for messages."""
        return f"machine {self.file.name!r} ({self.file.id}, {self.folder / MACHINE_FILE})"


class Machines:
    """The machine files below one root. Changes need the machine's lock."""

    def __init__(self, root: Root) -> None:
        self._root = root

    def machines(self) -> Iterator[Machine]:
        """Yield every machine in the order of the folders; then raise if one could not be read."""
        records, problems = self.scan()
        for record in records:
            try:
                machine = self.describe(record)
            except HoldfastError as error:
                problems.append(error)
                continue
            yield machine
        if problems:
            raise problems[0]

    def find(self, reference: str) -> Registered:
        """Return the machine with this id, or else the only one with this name."""
        records, problems = self.scan()
        by_id = [record for record in records if record.file.id == reference]
        if len(by_id) > 1:
            raise ConfigurationInvalid(f"{by_id[0].label} has the same id as {by_id[1].label}")
        by_name = [record for record in records if record.file.name == reference]
        if not by_id and len(by_name) > 1:
            ids = ", ".join(record.file.id for record in by_name)
            raise RequestInvalid(
                f"{len(by_name)} machines are called {reference!r}: {ids}",
                hint="Give the machine's id instead of its name.",
            )
        found = by_id or by_name
        if found:
            return found[0]
        if problems:
            raise ConfigurationInvalid(
                f"machine {reference!r} is not among those whose files can be read: {problems[0]}"
            ) from problems[0]
        raise MachineNotFound(f"no machine has the id or name {reference!r}")

    def with_id(self, machine_id: MachineId) -> Registered:
        """Return the machine with this id. Raises `MachineNotFound`."""
        record = self.find(machine_id)
        if record.file.id != machine_id:
            raise MachineNotFound(f"no machine has the id {machine_id!r}")
        return record

    def own_files(self, machine_id: MachineId) -> MachineFiles:
        """Return the file of a machine as it stands in its folder; left out when it cannot be read."""
        path = self.with_id(machine_id).folder / MACHINE_FILE
        try:
            content = path.read_bytes()
        except OSError as error:
            reason = f"{path} cannot be read: {error.strerror}"
            return MachineFiles(left_out=(FileLeftOut(name=MACHINE_FILE, reason=reason),))
        return MachineFiles(files=(machine_files.MachineFile(name=MACHINE_FILE, content=content),))

    def name_is_taken(self, name: str) -> bool:
        """Return whether a machine has this name, as far as machine files can be read.

        A damaged file must not stand in the way of a restore, and two machines of one name are
        allowed, only inconvenient.
        """
        records, _ = self.scan()
        return any(record.file.name == name for record in records)

    def scan(self) -> tuple[list[Registered], list[HoldfastError]]:
        """Return the machine files that can be read, and what is wrong with the others."""
        records: list[Registered] = []
        problems: list[HoldfastError] = []
        for folder in visible_folders(self._root.machines):
            try:
                records.append(_load(folder))
            except HoldfastError as error:
                if folder.exists():
                    problems.append(error)
        return records, problems

    def describe(self, record: Registered) -> Machine:
        """Return the machine with the present sizes of its disks, all checked."""
        disks = tuple(self._disk(record, entry) for entry in record.file.disks)
        return Machine(
            machine_id=record.file.id,
            name=record.file.name,
            power=record.file.power,
            disks=disks,
            configuration=record.file.configuration,
        )

    def disk_path(self, record: Registered, entry: DiskEntry) -> Path:
        """Return where a disk is; `ConfigurationInvalid` when a relative path leaves the root."""
        path = Path(entry.path)
        if path.is_absolute():
            return path.resolve()
        resolved = (record.folder / path).resolve()
        if ".." in path.parts or not resolved.is_relative_to(self._root.path.resolve()):
            raise ConfigurationInvalid(
                f"disk {entry.key!r} of {record.label}: {entry.path!r} leads out of the provider's folder",
                hint="Give the absolute path of a disk that lies elsewhere.",
            )
        return resolved

    def save(self, record: Registered) -> None:
        """Replace the machine's file."""
        with os_errors(ConfigurationInvalid, f"writing {record.label}"):
            write_json(record.folder / MACHINE_FILE, record.file)

    def _disk(self, record: Registered, entry: DiskEntry) -> Disk:
        path = self.disk_path(record, entry)
        place = f"disk {entry.key!r} of {record.label}: {path}"
        return Disk(
            key=entry.key,
            size_bytes=checked_size(_measure(path, place), place, ConfigurationInvalid),
        )


def checked_name(name: str) -> str:
    """Return the name of a machine if it can be one: any valid text of 1 to 255 characters."""
    if not 0 < len(name) <= NAME_LENGTH_MAX:
        raise RequestInvalid(f"a machine's name has 1 to {NAME_LENGTH_MAX} characters, not {len(name)}")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise RequestInvalid(f"the machine's name {name!r} is not valid text") from error
    return name


def new_uuid() -> str:
    """Return a new random UUID."""
    return str(uuid.UUID(bytes=secrets.token_bytes(16), version=4))


def plain_disks(disks: Mapping[DiskKey, str]) -> tuple[DiskEntry, ...]:
    """Return disk entries from keys and paths."""
    return tuple(DiskEntry(key=key, path=path) for key, path in disks.items())


def _load(folder: Path) -> Registered:
    path = folder / MACHINE_FILE
    try:
        file = read_json(path, MachineFile, ConfigurationInvalid, "machine file")
    except OSError as error:
        raise ConfigurationInvalid(f"machine file {path} cannot be read: {describe(error)}") from error
    record = Registered(folder, file)
    if not _is_uuid(file.id):
        raise ConfigurationInvalid(f"{record.label}: the id is not a UUID such as {uuid.UUID(int=0)}")
    if not 0 < len(file.name) <= NAME_LENGTH_MAX:
        raise ConfigurationInvalid(f"{record.label}: the name has not 1 to {NAME_LENGTH_MAX} characters")
    check_keys([entry.key for entry in file.disks], record.label, ConfigurationInvalid)
    return record


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _measure(path: Path, place: str) -> int:
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise ConfigurationInvalid(f"{place} is neither a file nor a block device")
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return disk_size(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise DiskReadFailed(f"{place} cannot be opened: {error.strerror}") from error
