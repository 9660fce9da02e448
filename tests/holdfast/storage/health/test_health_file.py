"""The health file on disk: what is known is kept, one writer at a time, and a damaged file is no obstacle."""

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime

import pytest

from holdfast.errors import ChainBusy
from holdfast.formats.chain_health import ChainHealth, UnitMark
from holdfast.model.points import Health
from holdfast.model.reads import ReadSpan
from holdfast.storage.health.health_file import (
    HEALTH_NAME,
    PointFacts,
    bad_units,
    change_health,
    points_of,
    read_health,
    with_all_read,
    with_damage,
    with_points,
    with_read,
    without_files,
    without_gone,
    without_problems,
    without_units,
    written_at,
)
from holdfast.testing.chains import ProtectedMachine
from holdfast.testing.crashfs import CrashFiles

NOW = datetime(2026, 11, 21, tzinfo=UTC)
POINTS = [PointFacts(number=number, point_id=f"id{number}", machine="web") for number in (1, 2)]


@pytest.fixture
def machine(machine: ProtectedMachine) -> ProtectedMachine:
    machine.back_up()
    return machine


def test_what_is_written_is_read(machine: ProtectedMachine, files: CrashFiles) -> None:
    folder = machine.repository.chain_folder(machine.kept[0].summary.chain)
    assert read_health(files, folder) == ChainHealth()
    written = change_health(files, folder, lambda health: with_damage(health, "aa", {3: "torn"}))
    assert read_health(files, folder) == written
    files.set_content(folder / HEALTH_NAME, b"no health file")
    assert read_health(files, folder) == ChainHealth()


def test_what_does_not_change_is_not_written(machine: ProtectedMachine, files: CrashFiles) -> None:
    folder = machine.repository.chain_folder(machine.kept[0].summary.chain)
    change_health(files, folder, lambda health: health)
    assert not files.exists(folder / HEALTH_NAME)


def test_one_writer_at_a_time(machine: ProtectedMachine, files: CrashFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.storage.health.health_file._LOOKS", 2)
    folder = machine.repository.chain_folder(machine.kept[0].summary.chain)

    def change(health: ChainHealth) -> ChainHealth:
        with pytest.raises(ChainBusy):
            change_health(files, folder, lambda inner: inner)
        return health

    change_health(files, folder, change)
    change_health(files, folder, lambda health: health)


def test_a_writer_who_is_nearly_done_is_waited_for(machine: ProtectedMachine, files: CrashFiles) -> None:
    folder = machine.repository.chain_folder(machine.kept[0].summary.chain)
    has_begun, may_end = threading.Event(), threading.Event()
    changed: list[str] = []

    def slow(health: ChainHealth) -> ChainHealth:
        has_begun.set()
        assert may_end.wait(60)
        changed.append("slow")
        return health

    def late(health: ChainHealth) -> ChainHealth:
        changed.append("late")
        return health

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(change_health, files, folder, slow)
        assert has_begun.wait(60)
        second = pool.submit(change_health, files, folder, late)
        assert wait([second], 0.2).not_done
        may_end.set()
        first.result(60)
        second.result(60)
    assert changed == ["slow", "late"]


def test_units_are_marked_and_forgotten() -> None:
    health = with_damage(with_damage(ChainHealth(), "aa", {3: "torn"}), "aa", {1: "gone", 3: "still"}, "table")
    assert health.file("aa").units == (UnitMark(1, "gone"), UnitMark(3, "still"))
    assert bad_units(health) == {"aa": {1: "gone", 3: "still"}}
    assert bad_units(without_units(health, "aa", {1, 3})) == {}
    assert without_problems(health, {"bb"}) == health
    assert without_problems(health, {"aa"}).file("aa").problem == ""
    assert without_files(health, {"aa"}).files == ()


def test_points_get_marks_when_they_were_damaged_once() -> None:
    health = with_points(ChainHealth(), POINTS, {1, 2}, {2: "torn"})
    assert [(mark.number, mark.state) for mark in health.points] == [(2, Health.DAMAGED)]
    assert with_points(health, POINTS, {1}, {}) == health
    again = with_points(health, POINTS, {1, 2}, {})
    (point,) = points_of("c", again)
    assert (point.state, point.reason, point.point_id, point.chain) == (Health.USABLE, "", "id2", "c")


def test_what_the_chain_has_no_more_is_forgotten(machine: ProtectedMachine) -> None:
    known = with_damage(with_points(ChainHealth(), POINTS, {2}, {2: "torn"}), "gone", {1: "torn"})
    with machine.repository.open_chain(machine.kept[0].summary.chain, None) as chain:
        left = without_gone(known, chain)
        read = with_all_read(machine.repository.files, left, chain, NOW)
        (file,) = chain.files
        assert written_at(file.contents) == machine.kept[0].summary.created
    assert left == ChainHealth()
    assert read.files[0].reads == (ReadSpan(0, file.superblock.end, NOW),)
    assert with_read(read, file.contents.file, ReadSpan(0, 5, NOW)) == read
