"""Two points are compared on the command line: spans, files, and what cannot be compared."""

import random
from pathlib import Path

from holdfast.errors import DiskNotFound, PointNotFound, RequestInvalid
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.ids import MachineId
from holdfast.pipeline.stages import PipeOptions
from holdfast.storage.intake.lifecycle import StoreOptions
from holdfast.testing.chains import ProtectedMachine
from holdfast.testing.images import FileSystem, make_image, write_files
from tests.workers.cli.place import Place
from tests.workers.cli.stored import back_up

SEED = 31


def two_points(place: Place, *, encrypted: bool = False) -> tuple[str, str]:
    rng = random.Random(SEED)
    content = bytearray(rng.randbytes(64 * PIECE_SIZE))
    first = back_up(place, 1, bytes(content), encrypted=encrypted)
    for piece in range(0, 40, 2):
        content[piece * PIECE_SIZE : (piece + 1) * PIECE_SIZE] = rng.randbytes(PIECE_SIZE)
    return first.point_id, back_up(place, 2, bytes(content), encrypted=encrypted).point_id


def test_the_spans_of_a_disk_are_listed(place: Place) -> None:
    old, new = two_points(place)
    document = place.json("diff", old[:8], new[:8])
    disk = document["disks"][0]
    assert document["machine"]["name"] == "web 01"
    assert document["changed_bytes"] == disk["changed_bytes"] == 20 * PIECE_SIZE
    assert disk["spans"] == [[piece * PIECE_SIZE, PIECE_SIZE] for piece in range(0, 40, 2)]
    assert disk["compared_by"] == "digests"
    assert (document["old"]["number"], document["new"]["number"]) == (1, 2)
    shown = place.run("diff", old[:8], "latest", "--no-files").stdout
    assert "1.2 MiB of 4.0 MiB in 20 spans, told by digests" in shown
    assert "and 8 further spans" in shown


def test_a_bound_leaves_spans_unnamed(place: Place) -> None:
    old, new = two_points(place)
    disk = place.json("diff", old, new, "--named", "3")["disks"][0]
    assert (len(disk["spans"]), disk["unnamed_spans"]) == (3, 17)


def test_a_point_is_like_itself(place: Place) -> None:
    old, _ = two_points(place)
    assert place.json("diff", old, old)["changed_bytes"] == 0
    assert "0 B of 4.0 MiB in 0 spans" in place.run("diff", old, old).stdout


def test_points_of_an_encrypted_chain_are_compared(place: Place) -> None:
    old, new = two_points(place, encrypted=True)
    assert place.json("diff", old, new, "--credential", "night")["changed_bytes"] == 20 * PIECE_SIZE
    place.json("diff", old, new, status=PointNotFound.exit_status)


def test_files_of_a_known_file_system_are_named(place: Place, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    path = tmp_path / "disk"
    make_image(path, FileSystem.EXT4, 16 << 20, {"etc/kept": rng.randbytes(200_000)})
    old = back_up(place, 1, path.read_bytes())
    write_files(path, FileSystem.EXT4, {"var.1.log": rng.randbytes(700_000)})
    new = back_up(place, 2, path.read_bytes())
    document = place.json("diff", old.point_id, new.point_id)
    volume = document["disks"][0]["new_volumes"][0]
    assert volume["files"][0]["path"] == "/var.1.log"
    assert (volume["place"], volume["kind"]) == ("the whole disk", "ext")
    shown = place.run("diff", old.point_id, new.point_id).stdout
    assert "the whole disk, ext, at the newer point:" in shown
    assert "/var.1.log" in shown
    assert "new_volumes" in str(document)
    assert place.json("diff", old.point_id, new.point_id, "--no-files")["disks"][0]["new_volumes"] == []


def test_a_disk_that_grew_says_so(place: Place) -> None:
    old = back_up(place, 1, bytes(4 * PIECE_SIZE))
    new = back_up(place, 2, bytes(4 * PIECE_SIZE) + b"x" * 512)
    shown = place.run("diff", old.point_id, new.point_id).stdout
    assert "its size was 256 KiB and is 256 KiB" in shown
    assert "not sure: it bears the marks of nothing known" in shown


def test_what_cannot_be_compared_is_refused(place: Place) -> None:
    old, new = two_points(place)
    place.json("diff", old, new, "--disk", "other", status=DiskNotFound.exit_status)
    place.json("diff", old, "ffff", status=PointNotFound.exit_status)


def test_points_of_two_machines_are_refused(place: Place) -> None:
    old, _ = two_points(place)
    error = place.json("diff", old, protected(place).back_up().point_id, status=RequestInvalid.exit_status)["error"]
    assert "of two machines" in error["message"]


def test_a_disk_that_only_one_point_has_is_named(place: Place) -> None:
    machine = protected(place)
    old = machine.back_up().point_id
    del machine.disks["b"]
    machine.disks["c"] = machine.disks["a"].copy()
    new = machine.back_up().point_id
    document = place.json("diff", old, new)
    sizes = {disk["key"]: (disk["old_size_bytes"], disk["new_size_bytes"]) for disk in document["disks"]}
    assert sizes == {"a": (PIECE_SIZE, PIECE_SIZE), "b": (PIECE_SIZE, None), "c": (None, PIECE_SIZE)}
    shown = place.run("diff", old, new).stdout
    assert "b: only the older point has it, with 64 KiB" in shown
    assert "c: only the newer point has it" in shown


def protected(place: Place) -> ProtectedMachine:
    """Return a machine called db with two disks."""
    store = StoreOptions(unit_size=256 << 10)
    machine = ProtectedMachine(place.repository, 1, {"a": PIECE_SIZE, "b": PIECE_SIZE}, store, PipeOptions())
    machine.machine_id, machine.name = MachineId("m2"), "db"
    return machine
