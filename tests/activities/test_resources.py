"""A proxy says how it reaches a machine; what talks to the scheduler is tested with it, in tests/workflows."""

from activities.contracts.resources import ProxySeen
from activities.resources import ProxyActivities
from holdfast.errors import ConfigurationInvalid, MachineNotFound, RepositoryNotFound
from holdfast.model.ids import ProviderName, RepositoryName
from holdfast.model.placement import Inquiry
from holdfast.model.plan import TransportMode
from tests.activities.lab import KEY, PROVIDER, STORE, Lab, failure, run, run_twice


def activities(lab: Lab) -> ProxyActivities:
    def reach(name: RepositoryName) -> None:
        lab.open_repository(name)

    return ProxyActivities(lab.open_provider, reach, lab.clock)


def test_a_proxy_says_over_which_way_it_reaches_each_disk(lab: Lab) -> None:
    machine = lab.add_machine()
    inquiry = Inquiry(provider=PROVIDER, machine=machine.machine_id, repository=STORE)
    [way] = run_twice(activities(lab).look, inquiry).ways
    assert (way.disk, way.mode) == (KEY, TransportMode.DIRECT)


def test_without_a_machine_provider_and_repository_are_looked_at(lab: Lab) -> None:
    assert run(activities(lab).look, Inquiry(provider=PROVIDER, repository=STORE)) == ProxySeen()


def test_what_is_not_reached_is_an_error(lab: Lab) -> None:
    look = activities(lab).look
    failure(RepositoryNotFound, look, Inquiry(provider=PROVIDER, repository=RepositoryName("other")))
    failure(ConfigurationInvalid, look, Inquiry(provider=ProviderName("other"), repository=STORE))
    failure(MachineNotFound, look, Inquiry(provider=PROVIDER, machine="nobody", repository=STORE))
