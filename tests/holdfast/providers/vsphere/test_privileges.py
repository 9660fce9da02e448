"""The least role: every privilege has a purpose, and what is missing is told by feature and object."""

import re

from holdfast.providers.vsphere.privileges import LEAST_ROLE, Answer, Feature, Place, by_feature, missing, names_for
from scripts import privileges_page

EVERYTHING = frozenset(one.name for one in LEAST_ROLE)


def answers(*lacking: str, places: int = 1) -> list[Answer]:
    granted = EVERYTHING - set(lacking)
    return [Answer(place=place, name=f"{place} {n}", granted=granted) for place in Place for n in range(places)]


def test_a_full_role_lacks_nothing() -> None:
    assert list(missing(answers())) == []
    assert all(not found for found in by_feature([]).values())


def test_each_line_is_a_privilege_once_for_each_feature_and_place() -> None:
    assert all(re.fullmatch(r"[A-Z]\w+(\.[A-Z]\w+)+", one.name) for one in LEAST_ROLE)
    assert len({(one.name, one.feature, one.place) for one in LEAST_ROLE}) == len(LEAST_ROLE)
    assert {one.feature for one in LEAST_ROLE} == set(Feature)


def test_one_privilege_is_missing_for_every_feature_that_needs_it() -> None:
    found = by_feature(missing(answers("VirtualMachine.Config.AdvancedConfig")))
    lacking = {feature for feature, entries in found.items() if entries}
    assert lacking == {Feature.RESTORE_NEW, Feature.RESTORE_REPLACE, Feature.ROLLBACK, Feature.HOT_ADD}


def test_what_is_granted_on_some_objects_only_is_named_by_the_others() -> None:
    some = answers("Datastore.Browse", places=2)
    some[-1] = Answer(place=Place.NETWORK, name="network 1", granted=frozenset())
    found = {one.privilege.name: one for one in missing(some)}
    assert found["Datastore.Browse"].is_everywhere
    assert (found["Network.Assign"].on, found["Network.Assign"].is_everywhere) == (("network 1",), False)


def test_a_kind_without_objects_is_not_judged() -> None:
    assert list(missing([])) == []


def test_each_kind_of_object_is_asked_for_its_privileges_once() -> None:
    assert names_for(Place.POOL) == ("Resource.AssignVMToPool",)
    for place in Place:
        names = names_for(place)
        assert len(set(names)) == len(names) > 0


def test_the_page_is_the_table() -> None:
    assert privileges_page.PAGE.read_text() == privileges_page.page()
