"""Restore targets: a machine of ours holds the empty disks until they are committed.

It is called ``holdfast-restore-<target>``, is never on, and carries the request in its extra configuration. A commit of
a new machine gives it its name. A commit that replaces disks hands them over to the machine in one reconfiguration,
which also leaves a note of it there; what comes after, removing the old files and the empty machine, may be repeated.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
from pyVmomi import vim

from holdfast.clock import Clock
from holdfast.errors import DataDamaged, DiskNotFound, HoldfastError, MachineNotFound, RequestInvalid
from holdfast.model.ids import DiskKey, MachineId, TargetId, folder_name
from holdfast.model.machine import AS_ANOTHER, Disk, Identity, Machine, Placement, RestoreTarget
from holdfast.providers.checks import check_disks, target_id_of
from holdfast.providers.vsphere import staging
from holdfast.providers.vsphere.attachments import Attacher, proxies_in
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.devices import disks_of
from holdfast.providers.vsphere.disk_rules import DiskFacts
from holdfast.providers.vsphere.hardware import Hardware, connected, hardware_in
from holdfast.providers.vsphere.identity import FACTS as CLAIM_FACTS
from holdfast.providers.vsphere.identity import changed, check_free, check_known, claim_of, permissions
from holdfast.providers.vsphere.inventory import VSphereInventory
from holdfast.providers.vsphere.labels import is_staging, staging_name
from holdfast.providers.vsphere.names import escaped_name, plain_name
from holdfast.providers.vsphere.networks import cards_left_out, networks_in
from holdfast.providers.vsphere.placing import Place, check_name, place_beside, place_for
from holdfast.providers.vsphere.properties import Question, Step, Values, ask, extra_of, read, walk
from holdfast.providers.vsphere.swapping import Swapper
from holdfast.providers.vsphere.target_state import (
    STATE_KEY,
    OpenTarget,
    StagedDisk,
    TargetState,
    decode_state,
    encode,
    instance_uuid,
    is_target_id,
    replaced_by,
    replacing,
    with_files,
)
from holdfast.providers.vsphere.tasks import wait

_PATIENCE_S: Final = 1800.0
_UUID: Final = "config.instanceUuid"
_CREATION: Final = "Folder.createVm"
_CREATION_S: Final = 300.0
_RUNNING: Final = (vim.TaskInfo.State.queued, vim.TaskInfo.State.running)
_FACTS: Final = ("name", "parent", "config.extraConfig", "config.hardware.device", "runtime.powerState")


class TargetStore:
    """The restore targets of one vCenter."""

    def __init__(self, connection: Connection, inventory: VSphereInventory, clock: Clock) -> None:
        self._connection = connection
        self._inventory = inventory
        self._clock = clock
        self._attacher = Attacher(connection, clock)
        self._swapper = Swapper(connection, inventory, clock)

    def prepare(
        self, token: str, machine: Machine, disks: Sequence[Disk], replaces: MachineId | None, placement: Placement
    ) -> RestoreTarget:
        """Make a machine with empty disks, or return the target that the token stands for."""
        target_id = target_id_of(token)
        if replaces is not None:
            target_id = replacing(target_id, replaces)
        target = RestoreTarget(target_id=target_id, machine_name=machine.name, disks=tuple(disks), replaces=replaces)
        check_disks(target)
        found = self._find(target.target_id)
        if found is not None and found.state.is_complete:
            if msgspec.structs.replace(found.state.target, notes=()) != target:
                raise RequestInvalid(f"target {target.target_id} was prepared for another request by the same token")
            return found.state.target
        place = self._place(target, machine, placement)
        if found is not None:
            self._take_back(found)
            self._destroy(found.vm, f"removing the unfinished target {target.target_id}")
        hardware = connected(hardware_in(machine.configuration), placement.networks)
        return self._build(target, hardware, place, placement.identity if replaces is None else AS_ANOTHER)

    def find(self, token: str) -> TargetId | None:
        """Return the target of a token, or None when there is none or it was committed."""
        self._settle_creations()
        found = self._find(target_id_of(token))
        return found.state.target_id if found is not None and is_staging(found.name) else None

    def opened(self, target_id: TargetId, key: DiskKey) -> OpenTarget:
        """Return a disk of a target, and the machine that holds it."""
        found = self._uncommitted(target_id)
        disk = found.state.disk(key)
        if disk is None:
            raise DiskNotFound(f"target {target_id} has no disk {key!r}")
        for facts in disks_of(found.devices):
            if facts.key == disk.device:
                files = frozenset(one.file for one in found.state.disks)
                return OpenTarget(target_id=target_id, vm=found.vm, facts=facts, files=files)
        raise RequestInvalid(f"target {target_id} is being committed")

    def new_machine(self, target_id: TargetId) -> Any:
        """Return the machine that a target will be; None when its disks are for another one.

        Raises `RequestInvalid` when there is no such target or it was committed.
        """
        found = self._uncommitted(target_id)
        return found.vm if found.state.replaces is None else None

    def commit(self, target_id: TargetId) -> Machine:
        """Give the machine its name, or hand its disks over. Idempotent."""
        found = self._find(target_id)
        if found is None:
            return self._swapper.committed(target_id, self._replaced(target_id))
        replaces = found.state.replaces
        if replaces is not None or is_staging(found.name):
            self._take_back(found)
        if replaces is not None:
            machine = self._swapper.swap(found.state, replaces, found.vm)
            self._destroy(found.vm, f"removing what is left of target {target_id}")
            return machine
        if is_staging(found.name):
            self._publish(found)
        return self._inventory.described(found.vm)

    def abandon(self, target_id: TargetId) -> None:
        """Remove a target that was not committed; a swap that was begun is completed."""
        found = self._find(target_id)
        if found is None or not is_staging(found.name):
            return
        if found.state.replaces is not None and self._swapper.is_swapped(found.state.replaces, target_id):
            self.commit(target_id)
            return
        self._take_back(found)
        self._swapper.give_back(found.state, found.vm)
        self._destroy(found.vm, f"removing target {target_id}")

    def pending(self) -> list[RestoreTarget]:
        """Return the targets that were neither committed nor abandoned, also those whose preparation died."""
        found: list[RestoreTarget] = []
        for vm, values in walk(self._connection, vim.VirtualMachine, ("name", _UUID)):
            if is_staging(values["name"]):
                found += self._listed(vm, values)
        return found

    def _listed(self, vm: Any, values: Values) -> Iterator[RestoreTarget]:
        """Yield what a machine holds; one that a newer version made is listed too, and whoever takes it is told."""
        try:
            held = self._held(vm)
        except DataDamaged:
            target_id = TargetId((values.get(_UUID) or "").replace("-", ""))
            yield RestoreTarget(target_id=target_id, machine_name=plain_name(values["name"]), disks=(), replaces=None)
            return
        if held is not None:
            yield held.state.target

    # Preparing

    def _place(self, target: RestoreTarget, machine: Machine, placement: Placement) -> Place:
        needed = sum(disk.size_bytes for disk in target.disks)
        if target.replaces is None:
            place = place_for(self._connection, hardware_in(machine.configuration), needed, placement)
            check_name(self._connection, place.folder, target.machine_name)
            return place
        vm = self._inventory.managed(target.replaces)
        self._swapper.check_replaceable(vm, [disk.key for disk in target.disks])
        return place_beside(self._connection, vm, needed)

    def _build(self, target: RestoreTarget, hardware: Hardware, place: Place, identity: Identity) -> RestoreTarget:
        """Create the machine with its disks in one call; then note what files they got."""
        staged = tuple(
            StagedDisk(key=disk.key, size_bytes=disk.size_bytes, device=DiskKey(""), file="", controller=0, unit=0)
            for disk in target.disks
        )
        state = TargetState(
            target_id=target.target_id,
            machine_name=target.machine_name,
            disks=staged,
            replaces=target.replaces,
            is_complete=False,
            identity=identity,
        )
        check_known(identity, hardware)
        controllers, slots = staging.slots_of(hardware, target.disks)
        name = folder_name(target.machine_name, target.target_id)
        folder = f"[{place.datastore}] {name}"
        changes = [*staging.controller_changes(controllers)]
        for number, disk in enumerate(target.disks):
            file = f"{place.beside or folder}/{name}-{number}.vmdk"
            changes.append(staging.new_disk(slots[disk.key], disk.size_bytes, file, number=number))
        notes = []
        if target.replaces is None:
            networks = networks_in(self._connection, place.datacenter)
            notes += cards_left_out(hardware.networks, networks)
            changes += staging.card_changes(hardware.networks, networks, identity.mac_addresses)
        claim = claim_of(identity, hardware.bios_uuid, [change.device for change in changes])
        notes += check_free(self._connection, claim)
        spec = _machine_spec(target, hardware, f"{folder}/{name}.vmx")
        if claim.uuid:
            spec.uuid = claim.uuid
        spec.deviceChange = changes
        spec.extraConfig = [_option(STATE_KEY, encode(state))]
        what = f"making disks for the restore of machine {target.machine_name!r}"
        task = self._connection.call(what, lambda: place.folder.CreateVM_Task(spec, place.pool, None))
        vm = wait(self._connection, self._clock, task, what, _PATIENCE_S)
        values = read(self._connection, vm, *CLAIM_FACTS)
        devices = values.get("config.hardware.device") or ()
        state = with_files(state, _files(devices, slots, target))
        state = msgspec.structs.replace(state, notes=(*notes, *changed(claim, values)))
        self._note(vm, state, what, permissions(claim, devices))
        return state.target

    def _note(self, vm: Any, state: TargetState, what: str, options: Iterable[Any]) -> None:
        spec = vim.vm.ConfigSpec(extraConfig=[_option(STATE_KEY, encode(state)), *options])
        task = self._connection.call(what, lambda: vm.ReconfigVM_Task(spec))
        wait(self._connection, self._clock, task, what, _PATIENCE_S)

    # Finding

    def _settle_creations(self) -> None:
        """Wait for machines that an earlier call of ours may have begun to make."""
        manager = self._connection.content.taskManager
        step = Step(kind=vim.TaskManager, path="recentTask")
        wanted = {vim.Task: ("info.state", "info.descriptionId")}
        for task, info in ask(self._connection, Question(start=manager, steps=(step,), wanted=wanted)).items():
            if info.get("info.descriptionId") == _CREATION and info.get("info.state") in _RUNNING:
                with suppress(HoldfastError):  # whoever began it was told; what matters is what there is now
                    wait(self._connection, self._clock, task, "waiting for a machine that is made", _CREATION_S)

    def _find(self, target_id: TargetId) -> "_Held | None":
        if not is_target_id(target_id):
            return None
        search, uuid = self._connection.content.searchIndex, instance_uuid(target_id)
        vm = self._connection.call(
            f"looking for target {target_id}",
            lambda: search.FindByUuid(datacenter=None, uuid=uuid, vmSearch=True, instanceUuid=True),
        )
        return None if vm is None else self._held(vm)

    def _replaced(self, target_id: TargetId) -> MachineId:
        """Return the machine that a target replaced. Raises `RequestInvalid` when its id names none."""
        machine_id = replaced_by(target_id)
        if machine_id is None:
            raise RequestInvalid(f"there is no restore target {target_id!r}")
        return machine_id

    def _required(self, target_id: TargetId) -> "_Held":
        found = self._find(target_id)
        if found is None:
            raise RequestInvalid(f"there is no restore target {target_id!r}")
        return found

    def _uncommitted(self, target_id: TargetId) -> "_Held":
        found = self._required(target_id)
        if not is_staging(found.name):
            raise RequestInvalid(f"target {target_id} is committed already")
        return found

    def _held(self, vm: Any) -> "_Held | None":
        try:
            values = read(self._connection, vm, *_FACTS)
        except MachineNotFound:
            return None
        text = extra_of(values, STATE_KEY)
        if text is None:
            return None
        name = plain_name(values["name"])
        devices = tuple(values.get("config.hardware.device") or ())
        return _Held(
            vm=vm,
            name=name,
            folder=values["parent"],
            devices=devices,
            state=decode_state(text, name),
            proxies=proxies_in(values),
        )

    # Ending

    def _take_back(self, found: "_Held") -> None:
        """Detach from proxies what a process that died has left attached to them."""
        files = {disk.file for disk in found.state.disks if disk.file}
        self._attacher.release(found.proxies, files)

    def _publish(self, found: "_Held") -> None:
        name = found.state.machine_name
        check_name(self._connection, found.folder, name)
        self._check_claim(found)
        what = f"naming the restored machine {name!r}"
        task = self._connection.call(what, lambda: found.vm.Rename_Task(escaped_name(name)))
        wait(self._connection, self._clock, task, what, _PATIENCE_S)

    def _check_claim(self, found: "_Held") -> None:
        """Raise `IdentityTaken` when by now another machine has what the restored one keeps."""
        if found.state.identity == AS_ANOTHER:
            return
        values = read(self._connection, found.vm, *CLAIM_FACTS)
        devices = values.get("config.hardware.device") or ()
        claim = claim_of(found.state.identity, values.get("config.uuid") or "", devices)
        check_free(self._connection, claim, found.vm)

    def _destroy(self, vm: Any, what: str) -> None:
        try:
            wait(self._connection, self._clock, self._connection.call(what, vm.Destroy_Task), what, _PATIENCE_S)
        except MachineNotFound:
            return  # gone already


class _Held(msgspec.Struct, frozen=True, kw_only=True):
    """A target as it was found."""

    vm: Any
    name: str
    folder: Any
    devices: tuple[Any, ...]
    state: TargetState
    proxies: tuple[str, ...]
    """Machines to which its disks were attached."""


def _option(key: str, value: str) -> Any:
    return vim.option.OptionValue(key=key, value=value)


def _files(devices: Sequence[Any], slots: dict[DiskKey, staging.Slot], target: RestoreTarget) -> list[DiskFacts]:
    """Return the disks that the machine got, in the order of the request."""
    facts = {(one.controller, one.unit): one for one in disks_of(devices)}
    by_file = sorted(facts.values(), key=lambda one: one.file)
    if len(by_file) != len(target.disks):
        raise RequestInvalid(f"target {target.target_id} has {len(by_file)} disks instead of {len(target.disks)}")
    found = []
    for number, disk in enumerate(target.disks):
        slot = slots[disk.key]
        found.append(facts.get((slot.controller, slot.unit)) or _with_number(by_file, number))
    return found


def _with_number(by_file: list[DiskFacts], number: int) -> DiskFacts:
    """Return the disk whose file carries a number; a server may have moved it to another slot."""
    return next(one for one in by_file if one.file.endswith(f"-{number}.vmdk"))


def _machine_spec(target: RestoreTarget, hardware: Hardware, path: str) -> Any:
    spec = vim.vm.ConfigSpec(
        name=staging_name(target.target_id),
        instanceUuid=instance_uuid(target.target_id),
        guestId=hardware.guest,
        annotation=hardware.notes,
        numCPUs=hardware.cpus,
        numCoresPerSocket=hardware.cores_per_socket,
        memoryMB=hardware.memory_mib,
        firmware=hardware.firmware,
        files=vim.vm.FileInfo(vmPathName=path),
    )
    if hardware.version:
        spec.version = hardware.version
    if hardware.is_secure_boot:
        spec.bootOptions = vim.vm.BootOptions(efiSecureBootEnabled=True)
    return spec
