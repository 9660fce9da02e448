"""Things of ours are known by their labels, whatever a caller's tag holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.model.machine import PowerState
from holdfast.providers.vsphere.labels import (
    SnapshotLabel,
    is_staging,
    read_description,
    snapshot_description,
    snapshot_name,
    staging_name,
)

TEXT = st.text(alphabet=st.characters(codec="utf-8"))


@given(TEXT, st.sampled_from(PowerState), st.lists(TEXT, max_size=3))
def test_a_label_comes_back_from_a_description(tag: str, power: PowerState, notes: list[str]) -> None:
    label = SnapshotLabel(tag=tag, power=power, notes=tuple(notes))
    assert read_description(snapshot_description(label)) == label


@pytest.mark.parametrize(
    "text", ["", "before the upgrade", "holdfast: ", "holdfast: {}", 'holdfast: {"tag": 1}', "x\n{}"]
)
def test_a_description_of_others_is_no_label(text: str) -> None:
    assert read_description(text) is None


def test_what_people_add_to_a_description_does_not_matter() -> None:
    label = SnapshotLabel(tag="t")
    assert read_description(f"do not touch\n{snapshot_description(label)}\nsigned, the operator") == label


@given(TEXT)
def test_a_snapshot_of_any_tag_has_a_short_name(tag: str) -> None:
    assert len(snapshot_name(tag)) == len("Holdfast ") + 8
    assert snapshot_name(tag).isprintable()


def test_machines_of_restores_are_known_by_their_name() -> None:
    name = staging_name("0123456789abcdef0123456789abcdef@x:y")
    assert name == "holdfast-restore-0123456789abcdef0123456789abcdef"
    assert is_staging(name)
    assert not is_staging("web")
