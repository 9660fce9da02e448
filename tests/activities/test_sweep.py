"""What is left is listed, and the catalog says whose it is."""

from collections.abc import Iterator

import msgspec
import pytest

from activities.contracts.sweep import DetachDisk, FindLeftovers, FindSessions, Leftovers, ListedSession, SessionsFound
from activities.sweep import LeftoverActivities, OwnerActivities
from holdfast.catalog.database import Catalog
from holdfast.errors import ConfigurationInvalid
from holdfast.model.ids import JobName, MachineId, ProviderName, SessionId, TargetId
from holdfast.model.machine import AttachedDisk
from holdfast.model.session import Outcome, Session, SessionKind
from holdfast.model.tags import session_tag
from holdfast.providers.checks import target_id_of
from holdfast.providers.local.hypervisor import LocalProvider
from tests.activities.lab import PROVIDER, STORE, Lab, failure, run, run_twice

S1, S2 = SessionId("s1"), SessionId("s2")


@pytest.fixture
def catalog(lab: Lab) -> Iterator[Catalog]:
    with lab.open_catalog() as catalog:
        yield catalog


def session(lab: Lab, session_id: SessionId, kind: SessionKind = SessionKind.RESTORE) -> Session:
    return Session(
        session_id=session_id,
        kind=kind,
        job=JobName("restore"),
        repository=STORE,
        outcome=Outcome.RUNNING,
        started=lab.clock.now(),
        workflow_id=f"restore/{session_id}",
    )


def target_of(session_id: SessionId, machine: str = "") -> TargetId:
    return TargetId(target_id_of(session_tag(session_id)) + machine)


def test_snapshots_and_targets_of_all_machines_are_listed(lab: Lab) -> None:
    web, mail = lab.add_machine("web"), lab.add_machine("mail")
    for machine in (web, mail):
        lab.provider.create_snapshot(machine.machine_id, session_tag(S1))
    lab.provider.prepare_target(session_tag(S2), msgspec.structs.replace(web, name="copy"), web.disks, None)
    found = run_twice(LeftoverActivities(lab.open_provider, lab.clock).find_leftovers, FindLeftovers(provider=PROVIDER))
    assert {(one.machine_name, one.tag) for one in found.snapshots} == {("web", "holdfast-s1"), ("mail", "holdfast-s1")}
    assert [(one.machine_name, one.target_id) for one in found.targets] == [("copy", target_of(S2))]


def test_attached_disks_are_listed_and_detached(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = AttachedDisk(
        machine_id=MachineId("p1"), machine_name="proxy", file="[a] web.vmdk", since=lab.clock.now(), tag="t"
    )
    left = [disk]
    monkeypatch.setattr(LocalProvider, "attached_disks", lambda _: list(left))
    monkeypatch.setattr(LocalProvider, "detach_disk", lambda _, attached: left.remove(attached))
    serve = LeftoverActivities(lab.open_provider, lab.clock)
    assert run(serve.find_leftovers, FindLeftovers(provider=PROVIDER)).attached == (disk,)
    run(serve.detach_disk, DetachDisk(provider=PROVIDER, attached=disk))
    assert run(serve.find_leftovers, FindLeftovers(provider=PROVIDER)).attached == ()


def test_the_local_provider_attaches_nothing(lab: Lab) -> None:
    assert run(LeftoverActivities(lab.open_provider, lab.clock).find_leftovers, FindLeftovers(provider=PROVIDER)) == (
        Leftovers()
    )
    disk = AttachedDisk(machine_id=MachineId("p1"), machine_name="proxy", file="f", since=lab.clock.now())
    lab.provider.detach_disk(disk)


def test_an_unknown_provider_is_refused(lab: Lab) -> None:
    serve = LeftoverActivities(lab.open_provider, lab.clock).find_leftovers
    failure(ConfigurationInvalid, serve, FindLeftovers(provider=ProviderName("nowhere")))


def test_sessions_and_owners_of_targets_are_those_of_the_catalog(lab: Lab, catalog: Catalog) -> None:
    one, two = session(lab, S1, SessionKind.BACKUP), session(lab, S2)
    for begun in (one, two):
        catalog.sessions.begin(begun)
    catalog.sessions.finish(msgspec.structs.replace(one, outcome=Outcome.FAILED, ended=lab.clock.now()))
    replacing, strange = target_of(S2, "@vc:m1"), TargetId("ff" * 16)
    request = FindSessions(sessions=(S1, SessionId("nobody")), targets=(replacing, strange))
    found = run_twice(OwnerActivities(lambda: catalog, lab.clock).find_sessions, request)
    assert found.target_owners == {replacing: S2}
    listed = {entry.session_id: entry for entry in found.sessions}
    assert listed.keys() == {S1, S2}
    assert listed[S1].ended is not None
    assert listed[S2] == ListedSession(session_id=S2, workflow_id="restore/s2", started=two.started)


def test_without_targets_no_restore_is_looked_at(lab: Lab, catalog: Catalog) -> None:
    catalog.sessions.begin(session(lab, S2))
    request = FindSessions(sessions=(), targets=())
    assert run_twice(OwnerActivities(lambda: catalog, lab.clock).find_sessions, request) == SessionsFound()
