"""References of jobs: a known kind and a colon mean a group, everything else is a machine."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.model.selection import Selector, SelectorKind, parse_selector

KINDS = st.sampled_from([kind.value for kind in SelectorKind])
REFERENCES = st.text() | st.lists(KINDS | st.text(), max_size=4).map(":".join)


@pytest.mark.parametrize(
    "reference, kind, value",
    [
        ("folder:/prod/web", SelectorKind.FOLDER, "/prod/web"),
        ("cluster:c1", SelectorKind.CLUSTER, "c1"),
        ("pool:gold", SelectorKind.POOL, "gold"),
        ("datastore:ds 1", SelectorKind.DATASTORE, "ds 1"),
        ("tag:tier/gold", SelectorKind.TAG, "tier/gold"),
        ("tag:a:b", SelectorKind.TAG, "a:b"),
        ("folder:", SelectorKind.FOLDER, ""),
        ("machine:folder:x", SelectorKind.MACHINE, "folder:x"),
        ("web", SelectorKind.MACHINE, "web"),
        ("folder", SelectorKind.MACHINE, "folder"),
        ("Folder:x", SelectorKind.MACHINE, "Folder:x"),
        ("9435354a:b170c191", SelectorKind.MACHINE, "9435354a:b170c191"),
        ("", SelectorKind.MACHINE, ""),
    ],
)
def test_a_reference_is_taken_apart_at_its_first_colon(reference: str, kind: SelectorKind, value: str) -> None:
    assert parse_selector(reference) == Selector(kind=kind, value=value)


@pytest.mark.parametrize(
    "written, shown",
    [
        ("machine:web", "web"),
        ("machine:tag:x", "machine:tag:x"),
        ("machine:machine:x", "machine:machine:x"),
        ("pool:gold", "pool:gold"),
    ],
)
def test_a_reference_is_shown_as_short_as_it_may_be(written: str, shown: str) -> None:
    assert parse_selector(written).text == shown


@given(REFERENCES)
@example("machine:folder:x")
def test_what_is_shown_means_the_same_when_it_is_read(reference: str) -> None:
    selector = parse_selector(reference)
    assert parse_selector(selector.text) == selector


@given(st.sampled_from(SelectorKind), REFERENCES)
def test_every_selector_can_be_written(kind: SelectorKind, value: str) -> None:
    selector = Selector(kind=kind, value=value)
    assert parse_selector(selector.text) == selector
