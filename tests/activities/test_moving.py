"""Moving and mapping through the activities: told in places, and repeated without harm."""

from pathlib import Path

import pytest

from activities.contracts import moving
from activities.moving import MovingActivities, RelocationActivities
from holdfast.errors import RequestInvalid
from holdfast.model.ids import CredentialName, MachineId, RepositoryName
from holdfast.model.points import PointSummary
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from tests.activities.lab import STORE, Attempt, HurriedClock, Lab, failure, run, run_twice

AWAY = RepositoryName("away")


@pytest.fixture
def away(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path / "away", HostFiles(), "ef" * 16, HurriedClock().now())


def serving(lab: Lab, away: Repository | None = None) -> MovingActivities:
    places = {STORE: lab.repository, AWAY: away}
    return MovingActivities(lambda name: places[name], lambda _: None, HurriedClock())  # type: ignore[arg-type,return-value]


def a_point(lab: Lab) -> PointSummary:
    _, point = lab.back_up(lab.add_machine("web"))
    return point


def giving(point: PointSummary, unit_size: int | None = None) -> moving.GiveMachine:
    return moving.GiveMachine(
        repository=STORE,
        folder=point.chain.split("/")[1],
        machine_id=MachineId("m2"),
        machine_name="web 02",
        credentials=(CredentialName("night"),),
        unit_size=unit_size,
    )


def test_a_machine_is_given_once_and_again(lab: Lab) -> None:
    point = a_point(lab)
    given = run_twice(serving(lab).give_machine, giving(point))
    [place] = given.chains
    assert (place.chain_id, place.machine_id, given.points) == (point.chain_id, "m2", 1)
    assert place.chain.split("/")[1] == given.folder


def test_a_job_with_other_units_is_refused(lab: Lab) -> None:
    failure(RequestInvalid, serving(lab).give_machine, giving(a_point(lab), 4 << 20))


def test_a_chain_moves_once_and_again_and_is_discarded_no_more(lab: Lab, away: Repository) -> None:
    point = a_point(lab)
    served = serving(lab, away)
    found = run(served.find_chains, moving.FindChains(repository=STORE, folder=point.chain.split("/")[1]))
    assert found.chains == (point.chain,)
    request = moving.MoveChain(source=STORE, target=AWAY, chain=point.chain)
    attempt = Attempt()
    moved = attempt.run(served.move_chain, request)
    assert (moved.place.chain, moved.points, moved.stays_until) == (point.chain, 1, None)
    assert attempt.beats[-1] == moving.MoveCursor(copied_bytes=moved.size_bytes)
    again = Attempt(attempt.beats[-1]).run(served.move_chain, request)
    assert again == moved
    run_twice(served.discard, moving.DiscardMove(target=AWAY, chain=point.chain))
    assert [found.point.id for found in away.points()] == [point.point_id]


def test_the_catalog_is_told(lab: Lab) -> None:
    point = a_point(lab)
    place = moving.ChainPlace(
        chain=point.chain, chain_id=point.chain_id, machine_id=MachineId("m2"), machine_name="web 02"
    )
    told = RelocationActivities(lab.open_catalog, HurriedClock())
    run_twice(told.relocate, moving.RelocateChains(repository=STORE, to=AWAY, chains=(place,)))
    assert lab.open_catalog().points.list(repository=STORE) == ()
