"""Machine files written by hand are checked, and every complaint names the machine and the file."""

import json
import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import (
    ConfigurationInvalid,
    DiskReadFailed,
    FormatTooNew,
    HoldfastError,
    LimitExceeded,
    MachineNotFound,
    RequestInvalid,
)
from holdfast.model.ids import MachineId
from holdfast.model.machine import PowerState
from holdfast.providers.local import machines
from holdfast.providers.local.machines import Machines, checked_name, new_uuid
from holdfast.providers.local.root import Root
from tests.holdfast.providers.local.bench import LocalBench, make_disk

ID = str(uuid.UUID(int=1))


def write(bench: LocalBench, folder: str = "web", **changes: Any) -> Path:
    """Write a machine file by hand, with one disk."""
    place = bench.root / "machines" / folder
    place.mkdir(exist_ok=True)
    if not (place / "a.raw").exists():
        make_disk(place / "a.raw", 1 << 20)
    content = {"id": ID, "name": folder, "disks": [{"key": "a", "path": "a.raw"}], **changes}
    (place / "machine.json").write_text(json.dumps(content))
    return place


def test_a_file_written_by_hand_needs_only_id_name_and_disks(bench: LocalBench) -> None:
    write(bench)
    found = bench.provider.machine("web")
    assert (found.machine_id, found.name, found.power) == (ID, "web", PowerState.OFF)
    assert [(disk.key, disk.size_bytes) for disk in found.disks] == [("a", 1 << 20)]
    assert found.configuration == {}


def test_the_configuration_is_reported(bench: LocalBench) -> None:
    write(bench, configuration={"cpus": "4"}, power="on")
    assert bench.provider.machine("web").configuration == {"cpus": "4"}
    assert bench.provider.machine("web").power is PowerState.ON


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"colour": "red"}, "unknown field `colour`"),
        ({"disks": [{"key": "a", "path": "a.raw", "size": 1}]}, "unknown field `size`"),
        ({"id": "web"}, "the id is not a UUID"),
        ({"id": ID.replace("-", "")}, "the id is not a UUID"),
        ({"name": ""}, "name has not 1 to 255"),
        ({"name": "n" * 256}, "name has not 1 to 255"),
        ({"power": "suspended"}, "suspended"),
        ({"configuration": {"cpus": 4}}, "Expected `str`"),
        ({"disks": [{"key": "a", "path": "a.raw"}] * 2}, "two disks with the key 'a'"),
        ({"disks": [{"key": "", "path": "a.raw"}]}, "a disk with an empty key"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(bench: LocalBench, changes: dict[str, Any], complaint: str) -> None:
    write(bench, **changes)
    with pytest.raises(ConfigurationInvalid, match=complaint) as caught:
        list(bench.provider.machines())
    assert "machines/web/machine.json" in caught.value.message


def test_a_file_that_is_no_json_is_named(bench: LocalBench) -> None:
    (write(bench) / "machine.json").write_bytes(b"{")
    with pytest.raises(ConfigurationInvalid, match=r"machines/web/machine\.json"):
        list(bench.provider.machines())


def test_a_folder_without_a_file_is_named(bench: LocalBench) -> None:
    (write(bench) / "machine.json").unlink()
    with pytest.raises(ConfigurationInvalid, match=r"web/machine\.json cannot be read: No such"):
        list(bench.provider.machines())


def test_a_file_of_a_later_version_is_named(bench: LocalBench) -> None:
    write(bench, format=2)
    with pytest.raises(FormatTooNew, match=r"web/machine\.json"):
        list(bench.provider.machines())


def test_too_many_disks_are_refused(bench: LocalBench) -> None:
    write(bench, disks=[{"key": str(n), "path": "a.raw"} for n in range(257)])
    with pytest.raises(LimitExceeded, match=r"web/machine\.json.* has 257 disks, more than 256"):
        list(bench.provider.machines())


@pytest.mark.parametrize("size", [0, 511, 513, (1 << 20) + 1])
def test_odd_sizes_are_refused(bench: LocalBench, size: int) -> None:
    os.truncate(write(bench) / "a.raw", size)
    with pytest.raises(ConfigurationInvalid, match=rf"web/machine\.json.*a\.raw has {size} bytes"):
        bench.provider.machine("web")


def test_a_missing_disk_is_named(bench: LocalBench) -> None:
    (write(bench) / "a.raw").unlink()
    with pytest.raises(DiskReadFailed, match=r"disk 'a' of machine 'web'.*a\.raw.*No such file"):
        bench.provider.machine("web")


def test_a_folder_is_no_disk(bench: LocalBench) -> None:
    (write(bench) / "a.raw").unlink()
    (bench.root / "machines" / "web" / "a.raw").mkdir()
    with pytest.raises(ConfigurationInvalid, match="neither a file nor a block device"):
        bench.provider.machine("web")


def test_relative_paths_stay_below_the_root(bench: LocalBench, tmp_path: Path) -> None:
    make_disk(tmp_path / "outside.raw", 512)
    place = write(bench, disks=[{"key": "a", "path": "link.raw"}])
    (place / "link.raw").symlink_to(tmp_path / "outside.raw")
    with pytest.raises(ConfigurationInvalid, match=r"'link\.raw' leads out"):
        bench.provider.machine("web")
    write(bench, disks=[{"key": "a", "path": "../../../outside.raw"}])
    with pytest.raises(ConfigurationInvalid, match="leads out"):
        bench.provider.machine("web")
    write(bench, disks=[{"key": "a", "path": "../web/a.raw"}])
    with pytest.raises(ConfigurationInvalid, match="leads out"):
        bench.provider.machine("web")


def test_absolute_paths_may_lead_anywhere(bench: LocalBench, tmp_path: Path) -> None:
    make_disk(tmp_path / "outside.raw", 512)
    (tmp_path / "link").symlink_to(tmp_path / "outside.raw")
    write(bench, disks=[{"key": "a", "path": str(tmp_path / "link")}])
    assert bench.provider.machine("web").disks[0].size_bytes == 512


def test_a_damaged_file_hides_only_its_own_machine(bench: LocalBench) -> None:
    write(bench, "bad", name="")
    write(bench, "good")
    (write(bench, "sick", id=new_uuid()) / "a.raw").unlink()
    assert bench.provider.machine("good").name == "good"
    found: list[str] = []

    def list_all() -> None:
        found.extend(machine.name for machine in bench.provider.machines())

    with pytest.raises(ConfigurationInvalid, match="machines/bad"):
        list_all()
    assert found == ["good"]
    with pytest.raises(ConfigurationInvalid, match=r"'bad' is not among .*machines/bad"):
        bench.provider.machine("bad")
    with pytest.raises(DiskReadFailed):
        bench.provider.machine("sick")


def test_a_machine_that_goes_while_it_is_listed_is_no_problem(
    bench: LocalBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(bench, "stays")
    gone = bench.root / "machines" / "gone"
    monkeypatch.setattr(machines, "visible_folders", lambda place: [gone, place / "stays"])
    assert [machine.name for machine in bench.provider.machines()] == ["stays"]


def test_two_files_with_one_id_are_refused(bench: LocalBench) -> None:
    write(bench, "one")
    write(bench, "two")
    with pytest.raises(ConfigurationInvalid, match=r"one/machine\.json.*has the same id as"):
        bench.provider.machine(ID)


def test_what_is_not_a_machine_folder_is_left_alone(bench: LocalBench) -> None:
    write(bench)
    (bench.root / "machines" / "README").touch()
    (bench.root / "machines" / ".trash").mkdir()
    assert [machine.name for machine in bench.provider.machines()] == ["web"]


def test_a_name_is_not_taken_for_an_id(bench: LocalBench) -> None:
    write(bench)
    with pytest.raises(MachineNotFound):
        Machines(Root(bench.root)).with_id(MachineId("web"))


@pytest.mark.parametrize("name", ["", "n" * 256, "half a surrogate \ud800"])
def test_impossible_names_are_refused(name: str) -> None:
    with pytest.raises(RequestInvalid):
        checked_name(name)


def test_every_complaint_is_an_error_of_ours(bench: LocalBench) -> None:
    file = write(bench) / "machine.json"
    file.unlink()
    file.mkdir()
    with pytest.raises(HoldfastError):
        bench.provider.machine("web")
