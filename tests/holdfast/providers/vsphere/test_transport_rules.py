"""The way to a disk follows the settings; what cannot work is left out with its reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.model.plan import TransportMode
from holdfast.providers.vsphere.transport_rules import DiskPlace, candidates

D, N, H, L = TransportMode.DIRECT, TransportMode.NETWORK, TransportMode.HTTPS, TransportMode.LEASE
MODES = st.lists(st.sampled_from([D, N, H, L]), unique=True)


@pytest.mark.parametrize(
    "is_mounted, is_child, allowed, expected",
    [
        (True, False, [D, N, H], [D, N, H]),
        (False, False, [D, N, H], [N, H]),
        (True, True, [D, N, H], [N]),
        (True, True, [D, H], []),
        (True, True, [D, H, L], [L]),
        (False, False, [D, H, L], [H, L]),
        (True, False, [H, D], [H, D]),
        (False, True, [N], [N]),
        (True, False, [], []),
    ],
)
def test_ways_come_in_the_order_of_the_settings(
    is_mounted: bool, is_child: bool, allowed: list[TransportMode], expected: list[TransportMode]
) -> None:
    place = DiskPlace(datastore="ds", is_mounted=is_mounted, is_child=is_child)
    assert [way.mode for way in candidates(place, allowed).ways] == expected


@given(st.booleans(), st.booleans(), MODES)
def test_every_allowed_way_is_a_candidate_or_has_a_reason(
    is_mounted: bool, is_child: bool, allowed: list[TransportMode]
) -> None:
    found = candidates(DiskPlace(datastore="ds", is_mounted=is_mounted, is_child=is_child), allowed)
    assert len(found.ways) + len(found.left_out) == len(allowed)
    assert all(way.reason for way in found.ways)
    assert not (is_child and {D, H} & {way.mode for way in found.ways})


def test_a_way_says_why_better_ones_were_none() -> None:
    found = candidates(DiskPlace(datastore="ds7", is_mounted=False, is_child=False), [D, N])
    assert found.ways[0].reason == "not direct: the proxy does not see datastore ds7"


def test_a_lease_comes_last_and_says_so() -> None:
    assert tuple(TransportMode)[-1] is L
    found = candidates(DiskPlace(datastore="ds7", is_mounted=True, is_child=True), [D, H, L])
    reason = "the machine had snapshots before ours"
    assert [way.reason for way in found.ways] == [f"not direct: {reason}; not https: {reason}"]


def test_an_encrypted_machine_is_not_exported() -> None:
    found = candidates(DiskPlace(datastore="ds7", is_mounted=False, is_child=False, is_encrypted=True), [L])
    assert (found.ways, found.left_out) == ((), ("not lease: encrypted machines are not exported",))
