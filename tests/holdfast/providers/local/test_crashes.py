"""A process that dies at any step leaves nothing half done that could be seen."""

import os
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from holdfast.errors import SourceError
from holdfast.model.machine import PowerState
from holdfast.model.spans import Span
from holdfast.providers.checks import target_id_of
from holdfast.testing.disks import PatternedDisk
from holdfast.testing.provider_bench import Subject, assert_same, raises, read_all
from tests.holdfast.providers.local.bench import LocalBench
from tests.holdfast.providers.local.crashing import (
    OPERATIONS,
    RESTORED,
    SIZE,
    SYNCS,
    Crasher,
    crasher,
)


class Crash:
    """One attempt: a hypervisor with the machine ``web``, on which an operation was killed."""

    def __init__(self, root: Path, seed: int) -> None:
        self.bench = LocalBench(root, seed)
        self.provider = self.bench.provider
        self.web = Subject(self.bench, "web", SIZE, SIZE)
        for key in self.web.keys:
            self.web.write(Span(0, SIZE // 2), key)
        self.restored = {
            disk.key: PatternedDisk(seed + 10 + index, disk.size_bytes) for index, disk in enumerate(RESTORED)
        }

    def run(self, operation: str) -> None:
        OPERATIONS[operation](self.provider)

    def prepare(self, operation: str) -> None:
        """Prepare a target and write all that is to be restored."""
        self.run(operation)
        for disk in RESTORED:
            data = self.restored[disk.key].write(Span(0, disk.size_bytes // 2))
            with self.provider.open_target(target_id_of("token"), disk.key) as target:
                target.write(0, memoryview(data))
                target.flush()

    def states(self) -> list[str]:
        """Return for each disk of the machine whether it is the old or the restored one."""
        found = []
        for key in self.web.keys:
            data = self.bench.read_live(self.web.machine_id, key)
            is_old = self.web.contents[key].difference(0, data) is None
            is_new = self.restored[key].difference(0, data) is None
            found.append("old" if is_old else "new" if is_new else "torn")
        return found

    def assert_restored(self) -> None:
        self.web.contents.update(self.restored)
        self.web.assert_live()
        assert {d.key for d in self.provider.machine("web").disks} == set(self.restored)
        assert self.provider.targets() == []
        self.provider.set_power(self.web.machine_id, PowerState.ON)

    def assert_clean(self) -> None:
        self.provider.sweep()
        assert self.bench.leftovers() == []
        assert self.provider.sweep() == []


@pytest.fixture(scope="module")
def child() -> Iterator[Crasher]:
    with crasher() as running:
        yield running


@pytest.fixture
def every_crash(
    child: Crasher, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, Callable[[Crash], None]], Iterator[Crash]]:
    for name in SYNCS:  # hundreds of them, and no kill could tell
        monkeypatch.setattr(os, name, lambda descriptor: None)

    def crashes(operation: str, before: Callable[[Crash], None]) -> Iterator[Crash]:
        for step in count(1):
            crash = Crash(tmp_path / str(step), seed % 2**32)
            before(crash)
            ended = child.run(step, operation, crash.bench.root)
            sys.stdout.write(f"{operation} {'ended' if ended else f'killed before step {step}'}\n")
            yield crash
            if ended:
                assert step > 1
                return

    return crashes


Crashes = Callable[[str, Callable[[Crash], None]], Iterator[Crash]]


def test_a_killed_snapshot_is_whole_or_not_there(every_crash: Crashes) -> None:
    def with_an_earlier_one(crash: Crash) -> None:
        crash.provider.create_snapshot(crash.web.machine_id, "earlier")
        crash.web.write(Span(0, 4096))

    for crash in every_crash("snapshot", with_an_earlier_one):
        seen = [s for s in crash.provider.snapshots(crash.web.machine_id) if s.tag == "tag"]
        made = crash.provider.create_snapshot(crash.web.machine_id, "tag")
        assert seen in ([], [made])
        for key in crash.web.keys:
            with crash.provider.open_disk(crash.web.machine_id, made.snapshot_id, key) as disk:
                assert_same(crash.web.contents[key], read_all(disk), "frozen disk")
        crash.assert_clean()


def test_changes_survive_a_killed_snapshot(every_crash: Crashes) -> None:
    def changed(crash: Crash) -> None:
        crash.provider.create_snapshot(crash.web.machine_id, "earlier")
        crash.web.write(Span(0, 4096))

    for crash in every_crash("snapshot", changed):
        earlier = crash.provider.snapshots(crash.web.machine_id)[0].disks[0].change_id
        crash.web.write(Span(SIZE - 4096, 4096))
        made = crash.provider.create_snapshot(crash.web.machine_id, "later")
        assert earlier is not None
        spans = list(crash.provider.changed_spans(crash.web.machine_id, made.snapshot_id, crash.web.key, earlier))
        assert spans == [Span(0, 65536), Span(SIZE - 65536, 65536)]
        assert made.disks[0].change_id != earlier


def test_a_killed_removal_leaves_a_whole_snapshot_or_none(every_crash: Crashes) -> None:
    for crash in every_crash("remove", lambda crash: crash.run("snapshot")):
        for found in crash.provider.snapshots(crash.web.machine_id):
            for key in crash.web.keys:
                with crash.provider.open_disk(crash.web.machine_id, found.snapshot_id, key) as d:
                    assert_same(crash.web.contents[key], read_all(d), "frozen disk")
        crash.run("remove")
        assert crash.provider.snapshots(crash.web.machine_id) == []
        crash.assert_clean()


@pytest.mark.parametrize("operation", ["prepare_new", "prepare_replacing"])
def test_a_killed_preparation_is_whole_or_not_there(every_crash: Crashes, operation: str) -> None:
    for crash in every_crash(operation, lambda _: None):
        seen = crash.provider.targets()
        crash.run(operation)
        assert seen in ([], crash.provider.targets())
        for disk in RESTORED:
            with crash.provider.open_target(target_id_of("token"), disk.key) as target:
                assert read_all(target) == bytes(disk.size_bytes)
        crash.web.assert_live()
        crash.assert_clean()


def test_a_killed_preparation_in_place_is_a_whole_copy_or_none(every_crash: Crashes) -> None:
    for crash in every_crash("prepare_in_place", lambda _: None):
        seen = crash.provider.targets()
        crash.run("prepare_in_place")
        assert seen in ([], crash.provider.targets())
        for key in crash.web.keys:
            with crash.provider.open_target(target_id_of("token"), key) as target:
                assert_same(crash.web.contents[key], read_all(target), f"copy of disk {key}")
        crash.run("commit")
        crash.web.assert_live()
        crash.assert_clean()


def test_a_killed_commit_makes_the_whole_new_machine_or_none(every_crash: Crashes) -> None:
    for crash in every_crash("commit", lambda crash: crash.prepare("prepare_new")):
        names = [machine.name for machine in crash.provider.machines()]
        assert sorted(names) in (["web"], ["new", "web"])
        made = crash.provider.commit_target(target_id_of("token"))
        assert made == crash.provider.machine("new")
        for key, content in crash.restored.items():
            assert_same(content, crash.bench.read_live(made.machine_id, key), f"disk {key}")
        crash.web.assert_live()
        crash.assert_clean()


@pytest.mark.parametrize("completion", ["commit", "abandon", "sweep"])
def test_a_killed_commit_replaces_all_disks_or_none(every_crash: Crashes, completion: str) -> None:
    seen = set()
    for crash in every_crash("commit", lambda crash: crash.prepare("prepare_replacing")):
        states = crash.states()
        seen.add(tuple(states))
        assert "torn" not in states
        if len(set(states)) > 1:
            with raises(SourceError):
                crash.provider.set_power(crash.web.machine_id, PowerState.ON)
            with raises(SourceError):
                crash.provider.create_snapshot(crash.web.machine_id, "tag")
        if completion == "commit":
            crash.run("commit")
        elif completion == "abandon":
            crash.run("abandon")
        crash.assert_clean()
        if completion == "commit" or "new" in states:
            crash.assert_restored()
        elif completion == "abandon":
            assert crash.provider.targets() == []
    assert seen == {("old", "old"), ("new", "old"), ("new", "new")}


def test_a_killed_abandonment_leaves_a_whole_target_or_none(every_crash: Crashes) -> None:
    for crash in every_crash("abandon", lambda crash: crash.prepare("prepare_replacing")):
        for target in crash.provider.targets():
            for key, content in crash.restored.items():
                with crash.provider.open_target(target.target_id, key) as disk:
                    assert_same(content, read_all(disk), "target")
        crash.run("abandon")
        assert crash.provider.targets() == []
        crash.web.assert_live()
        crash.assert_clean()


def test_a_killed_power_change_is_made_or_not(every_crash: Crashes) -> None:
    for crash in every_crash("switch_on", lambda _: None):
        assert crash.provider.machine("web").name == "web"
        crash.run("switch_on")
        assert crash.provider.machine("web").power is PowerState.ON


def test_a_killed_registration_is_whole_or_not_there(every_crash: Crashes) -> None:
    for crash in every_crash("add", lambda _: None):
        if "added" not in {machine.name for machine in crash.provider.machines()}:
            crash.run("add")
        added = crash.provider.machine("added")
        data = crash.bench.read_live(added.machine_id, added.disks[0].key)
        assert_same(crash.web.content, data, "added disk")
        crash.assert_clean()
