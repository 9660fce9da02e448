"""The self-test of a vCenter that touches no machine: what is asked, and of what."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final

from pyVmomi import vim

from holdfast.clock import Clock
from holdfast.errors import AccessDenied, HoldfastError
from holdfast.providers.vsphere.connection import Connection, Endpoint
from holdfast.providers.vsphere.devices import disks_of
from holdfast.providers.vsphere.disk_rules import base_file, reason_to_skip
from holdfast.providers.vsphere.labels import is_staging
from holdfast.providers.vsphere.names import plain_name
from holdfast.providers.vsphere.privileges import Answer, Place, missing, names_for
from holdfast.providers.vsphere.properties import Values, read, walk
from holdfast.providers.vsphere.self_test import (
    Finding,
    MachineFacts,
    failed,
    judge_clocks,
    judge_inventory,
    judge_privileges,
    judge_product,
    ok,
    warning,
)
from holdfast.providers.vsphere.self_test_ways import Sample, try_ways
from holdfast.providers.vsphere.settings import VSphereSettings

OBJECTS_MAX: Final = 100
"""Objects of one kind whose privileges are asked for."""
_SAMPLES_MAX: Final = 3
_FACTS: Final = (
    "name",
    "config.template",
    "config.instanceUuid",
    "capability.changeTrackingSupported",
    "config.hardware.device",
)


def examine(settings: VSphereSettings, clock: Clock) -> Iterator[Finding]:
    """Yield what was found at a vCenter. Errors become findings; without a login nothing more is asked."""
    try:
        connection = Connection(settings.endpoint)
    except HoldfastError as error:
        yield failed("connection", error)
        return
    with connection:
        endpoint = settings.endpoint
        yield ok("connection", f"{endpoint.label} as {endpoint.user}, {_trust(endpoint)}")
        yield from _Examination(connection, settings, clock).findings()


def _trust(endpoint: Endpoint) -> str:
    if endpoint.thumbprint is not None:
        return "the certificate is the pinned one"
    signer = "the certificates of this host" if endpoint.ca_file is None else str(endpoint.ca_file)
    return f"the certificate is trusted by {signer}"


class _Examination:
    """One session's look at everything."""

    def __init__(self, connection: Connection, settings: VSphereSettings, clock: Clock) -> None:
        self._connection = connection
        self._settings = settings
        self._clock = clock
        self._objects: dict[Place, list[tuple[str, Any]]] = {place: [] for place in Place}
        self._samples: dict[str, list[Sample]] = {}

    def findings(self) -> Iterator[Finding]:
        for check, look in (
            ("product", self._product),
            ("clock", self._clocks),
            ("machines", self._inventory),
            ("places", self._places),
            ("privileges", self._privileges),
            ("transports", self._ways),
        ):
            yield from _guarded(check, look)

    def _product(self) -> Iterator[Finding]:
        about = self._connection.content.about
        yield judge_product(about.fullName, about.apiVersion)

    def _clocks(self) -> Iterator[Finding]:
        instance = self._connection.reference(vim.ServiceInstance, "ServiceInstance")
        before = self._clock.now()
        theirs = self._connection.call("asking for the time", instance.CurrentTime)
        after = self._clock.now()
        yield judge_clocks(theirs, before + (after - before) / 2)

    def _inventory(self) -> Iterator[Finding]:
        yield from judge_inventory(self._machines())

    def _machines(self) -> Iterator[MachineFacts]:
        for vm, values in walk(self._connection, vim.VirtualMachine, _FACTS):
            name = plain_name(values["name"])
            if is_staging(name):
                continue
            facts = _machine_facts(name, values)
            if not facts.is_template and facts.has_configuration:
                self._note(Place.MACHINE, name, vm)
                self._take_samples(vm, values)
            yield facts

    def _take_samples(self, vm: Any, values: Values) -> None:
        for disk in disks_of(values.get("config.hardware.device") or ()):
            known = self._samples.setdefault(disk.datastore, [])
            if disk.file and reason_to_skip(disk) is None and len(known) < _SAMPLES_MAX:
                known.append(Sample(machine=vm, file=base_file(disk.file)))

    def _places(self) -> Iterator[Finding]:
        """Collect the objects whose privileges matter; say which datastores are away."""
        for place, kind in ((Place.POOL, vim.ResourcePool), (Place.NETWORK, vim.Network)):
            for found, values in walk(self._connection, kind, ("name",)):
                self._note(place, plain_name(values["name"]), found)
        for found, values in walk(self._connection, vim.Folder, ("name", "childType")):
            if "VirtualMachine" in (values.get("childType") or ()):
                self._note(Place.FOLDER, plain_name(values["name"]), found)
        stores = list(walk(self._connection, vim.Datastore, ("name", "summary.accessible")))
        for found, values in stores:
            self._note(Place.DATASTORE, plain_name(values["name"]), found)
        away = [plain_name(values["name"]) for _, values in stores if not values.get("summary.accessible", True)]
        if away:
            hint = "Machines on them cannot be protected until their hosts reach them again."
            yield warning("datastores", f"not accessible: {', '.join(sorted(away))}", hint)
        elif not stores:
            yield warning("datastores", "the account sees none", "Give it its role on the datastores too.")
        else:
            yield ok("datastores", ", ".join(sorted(name for name, _ in self._objects[Place.DATASTORE])))

    def _privileges(self) -> Iterator[Finding]:
        try:
            answers = list(self._answers())
        except HoldfastError as error:
            yield warning("privileges", f"they cannot be asked for: {error.message}", "Compare the role by hand.")
            return
        yield from judge_privileges(missing(answers))

    def _answers(self) -> Iterator[Answer]:
        content, logins = self._connection.content, self._connection.logins
        session = read(self._connection, content.sessionManager, "currentSession.key").get("currentSession.key")
        if session is None:
            raise AccessDenied(f"{self._connection.endpoint.label} does not tell which session this is")
        manager = content.authorizationManager
        for place, objects in self._objects.items():
            if not objects:
                continue
            entities, wanted = [found for _, found in objects], list(names_for(place))
            ask = partial(manager.HasPrivilegeOnEntities, entities, session, wanted)
            told: Any = self._connection.call("asking for privileges", ask, of_login=logins)
            granted = {str(one.entity._moId): _granted(one.privAvailability) for one in told}
            for name, found in objects:
                yield Answer(place=place, name=name, granted=granted.get(str(found._moId), frozenset()))

    def _ways(self) -> Iterator[Finding]:
        stores = sorted({name for name, _ in self._objects[Place.DATASTORE]})
        yield from try_ways(self._connection, self._settings, stores, self._samples)

    def _note(self, place: Place, name: str, found: Any) -> None:
        if len(self._objects[place]) < OBJECTS_MAX:
            self._objects[place].append((name, found))


def _guarded(check: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield what a look finds; an error ends that look alone."""
    try:
        yield from look()
    except HoldfastError as error:
        yield failed(check, error)


def _granted(told: Iterable[Any]) -> frozenset[str]:
    return frozenset(str(one.privId) for one in told if one.isGranted)


def _machine_facts(name: str, values: Values) -> MachineFacts:
    reasons = [reason_to_skip(disk) for disk in disks_of(values.get("config.hardware.device") or ())]
    return MachineFacts(
        name=name,
        is_template=bool(values.get("config.template")),
        has_configuration=bool(values.get("config.instanceUuid")),
        can_track=bool(values.get("capability.changeTrackingSupported")),
        disks=reasons.count(None),
        skipped=tuple(reason for reason in reasons if reason is not None),
    )
