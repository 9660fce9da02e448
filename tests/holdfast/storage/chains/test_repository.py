"""A repository is a folder with a marker; without it nothing is taken for a repository."""

from pathlib import Path

import msgspec
import pytest

from holdfast.clock import SystemClock
from holdfast.errors import (
    ChainBroken,
    DataError,
    PassphraseWrong,
    PointNotFound,
    RepositoryUnavailable,
    RequestInvalid,
)
from holdfast.faults import set_hook
from holdfast.model.ids import MachineId
from holdfast.storage.chains.repository import MARKER_NAME, Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.testing.chains import ProtectedMachine
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.conftest import ROOT, make_machine

NOW = SystemClock().now()


def test_a_new_repository_can_be_opened_and_is_empty(tmp_path: Path) -> None:
    made = Repository.create(tmp_path / "r", HostFiles(), "id", NOW)
    opened = Repository.open(tmp_path / "r", HostFiles())
    assert opened.marker == made.marker
    assert list(opened.points()) == []
    assert Repository.create(tmp_path / "r", HostFiles(), "other", NOW).marker.id == "id"


@pytest.mark.parametrize("present", ["nothing", "folder", "half a marker", "a foreign file"])
def test_a_folder_without_its_marker_is_no_repository(tmp_path: Path, present: str) -> None:
    if present != "nothing":
        (tmp_path / "r").mkdir()
    if present == "half a marker":
        (tmp_path / "r" / MARKER_NAME).write_bytes(b'{"format": 1, "id"')
    if present == "a foreign file":
        (tmp_path / "r" / MARKER_NAME).write_bytes(b'{"name": "something else"}')
    with pytest.raises(RepositoryUnavailable):
        Repository.open(tmp_path / "r", HostFiles())


def test_a_folder_with_other_content_does_not_become_a_repository(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(RequestInvalid, match=r"holiday\.jpg"):
        Repository.create(tmp_path, HostFiles(), "id", NOW)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_repository_that_lost_its_marker_is_not_made_anew(files: CrashFiles, machine: ProtectedMachine) -> None:
    machine.back_up()
    files.drop(ROOT / MARKER_NAME)
    with pytest.raises(RequestInvalid, match="machines"):
        Repository.create(ROOT, files, "id", NOW)


@pytest.mark.parametrize("point", ["replace.written", "replace.synced", "replace.renamed"])
def test_an_interrupted_creation_is_made_good_by_the_next(tmp_path: Path, point: str) -> None:
    def die(name: str) -> None:
        if name == point:
            raise ZeroDivisionError

    set_hook(die)
    try:
        with pytest.raises(ZeroDivisionError):
            Repository.create(tmp_path, HostFiles(), "id", NOW)
    finally:
        set_hook(None)
    assert Repository.create(tmp_path, HostFiles(), "id", NOW).marker.id == "id"


@pytest.mark.parametrize("chain", ["/etc/passwd", "machines/../..", "machines/x", "machines/x/y/z", "", "../a/b"])
def test_no_chain_lies_outside_the_repository(machine: ProtectedMachine, chain: str) -> None:
    with pytest.raises(RequestInvalid):
        machine.repository.chain_folder(chain)


def test_a_chain_that_is_gone_says_so(machine: ProtectedMachine) -> None:
    with pytest.raises(ChainBroken, match="is gone"):
        machine.repository.open_chain("machines/web-00000000/000001-00000000", None)


def test_what_is_not_ours_in_the_folders_is_passed_over(files: CrashFiles, machine: ProtectedMachine) -> None:
    summary = machine.back_up()
    folder = machine.repository.chain_folder(summary.chain)
    for stray in (folder.parent.parent / "notes.txt", folder.parent / "Thumbs.db", folder / "readme"):
        files.set_content(stray, b"?")
    files.make_folder(folder.parent / "lost+found")
    assert machine.repository.chain_folders() == [folder]
    assert machine.back_up().chain == summary.chain
    assert machine.differences() == []


def test_a_point_is_found_by_the_beginning_of_its_id_or_as_the_newest(machine: ProtectedMachine) -> None:
    made = [machine.back_up() for _ in range(3)]
    find = machine.repository.find_point
    assert [find(point.point_id[:12]).point.number for point in made] == [1, 2, 3]
    assert find(made[1].point_id.upper()).point.number == 2
    assert find("latest").point.number == find("latest", None, "web 01").point.number == 3
    assert find("latest", None, "m1").reference == made[2].point_id[:12]
    with pytest.raises(PointNotFound, match="of machine nobody"):
        find("latest", None, "nobody")
    with pytest.raises(PointNotFound, match="no complete point ffff"):
        find("ffff" + "0" * 28)


def test_the_newest_of_several_machines_is_nobodys(machine: ProtectedMachine) -> None:
    machine.back_up()
    machine.machine_id = MachineId("m2")
    machine.back_up()
    with pytest.raises(RequestInvalid, match="2 machines"):
        machine.repository.find_point("latest")
    assert machine.repository.find_point("latest", None, "m2").point.machine.machine_id == "m2"


def test_unfinished_points_are_listed_and_not_found(machine: ProtectedMachine) -> None:
    machine.sessions = 1
    opened = machine.begin()
    assert [found.point.complete for found in machine.repository.points()] == [False]
    with pytest.raises(PointNotFound):
        machine.repository.find_point(opened.point_id)


def test_an_encrypted_chain_hides_no_other(files: CrashFiles, machine: ProtectedMachine) -> None:
    plain = machine.back_up()
    locked = make_machine({"disk0": 2}, files, "correct horse", seed=5)
    locked.machine_id = MachineId("m2")
    secret = locked.back_up()
    repository = machine.repository
    assert repository.find_point(plain.point_id).encrypted is False
    assert repository.find_point(plain.point_id, "correct horse").point.number == 1
    assert repository.find_point(secret.point_id, "correct horse").encrypted is True
    for passphrase in (None, "wrong horse"):
        with pytest.raises(PassphraseWrong):
            repository.find_point(secret.point_id, passphrase)
    assert repository.find_point(secret.point_id, "wrong horse", others=["correct horse"]).encrypted is True
    assert repository.find_point(plain.point_id, others=["correct horse"]).encrypted is False


def test_an_older_point_is_never_taken_for_the_newest_because_a_file_is_damaged(
    files: CrashFiles, machine: ProtectedMachine
) -> None:
    made = [machine.back_up() for _ in range(2)]
    path = machine.repository.chain_folder(made[1].chain) / made[1].file
    files.set_content(path, bytes(8192) + files.content(path)[8192:])
    with pytest.raises(DataError, match=made[1].file):
        machine.repository.find_point("latest")
    assert machine.repository.find_point(made[0].point_id).point.number == 1
    with pytest.raises(DataError, match=made[1].file):
        list(machine.repository.points())
    surveyed = list(machine.repository.survey())
    assert [(len(chain.points), chain.problem is not None) for chain in surveyed] == [(1, True)]


def test_a_repository_that_vanishes_is_unavailable_and_not_empty(files: CrashFiles, machine: ProtectedMachine) -> None:
    machine.back_up()
    files.drop(ROOT / "machines")
    with pytest.raises(RepositoryUnavailable):
        list(machine.repository.points())
    files.drop(ROOT)
    with pytest.raises(RepositoryUnavailable):
        machine.repository.check_present()


def test_a_marker_with_more_members_is_read_all_the_same(files: CrashFiles, machine: ProtectedMachine) -> None:
    path = ROOT / MARKER_NAME
    marker = msgspec.json.decode(files.content(path))
    files.set_content(path, msgspec.json.encode({**marker, "note": "of a later version"}))
    machine.repository.check_present()
