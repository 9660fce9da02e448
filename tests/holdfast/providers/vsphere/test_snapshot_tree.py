"""In a tree of snapshots ours are told from those of others."""

from types import SimpleNamespace
from typing import Any

from holdfast.providers.vsphere.labels import SnapshotLabel, snapshot_description
from holdfast.providers.vsphere.snapshot_tree import entries, foreign, ours, protective


def entry(number: int, tag: str | None, *children: Any) -> Any:
    description = "by hand" if tag is None else snapshot_description(SnapshotLabel(tag=tag))
    return SimpleNamespace(id=number, name=f"s{number}", description=description, childSnapshotList=list(children))


def test_ours_come_oldest_first_wherever_they_hang() -> None:
    tree = [entry(1, None, entry(4, "d"), entry(2, "b", entry(3, None))), entry(0, "a")]
    assert [label.tag for _, label in ours(tree)] == ["a", "b", "d"]
    assert foreign(tree) == ["s1", "s3"]


def test_a_machine_without_snapshots_has_no_tree() -> None:
    assert (list(entries(None)), ours(None), foreign(None)) == ([], [], [])


def test_a_snapshot_without_a_description_is_of_others() -> None:
    bare = SimpleNamespace(id=1, name="bare", description=None, childSnapshotList=None)
    assert foreign([bare]) == ["bare"]


def test_a_deep_tree_is_walked() -> None:
    node = entry(0, "0")
    for number in range(1, 5000):
        node = entry(number, str(number), node)
    assert len(ours([node])) == 5000


def test_a_snapshot_that_keeps_what_a_machine_held_is_no_backup_of_it() -> None:
    label = SnapshotLabel(tag="t", target_id="0" * 32, disks=("2000",))
    held = entry(3, None)
    held.description = snapshot_description(label)
    tree = [entry(1, "a", held)]
    assert [one.tag for _, one in ours(tree)] == ["a"]
    assert [one for _, one in protective(tree)] == [label]
    assert foreign(tree) == []
