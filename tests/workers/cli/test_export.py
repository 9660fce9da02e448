"""A disk of a point is exported from the command line, without Temporal and workers."""

import random
from pathlib import Path

import pytest

from holdfast.errors import DiskNotFound, PassphraseWrong, RequestInvalid, TargetExists, ToolMissing
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.spans import Span
from tests.workers.cli.place import Place
from tests.workers.cli.stored import back_up
from tests.workers.cli.test_diff import protected

CONTENT = random.Random(5).randbytes(6 * PIECE_SIZE) + bytes(4 * PIECE_SIZE)


@pytest.mark.tools("qemu-img")
def test_a_disk_is_exported(place: Place, tmp_path: Path) -> None:
    point = back_up(place, 1, CONTENT)
    target = tmp_path / "web [1].img"
    document = place.json("export", "latest", "--to", str(target), "--verify")
    assert target.read_bytes() == CONTENT
    assert document == {
        "point": point.point_id,
        "disk": "disk0",
        "file": str(target),
        "format": "raw",
        "size_bytes": len(CONTENT),
        "data_bytes": 6 * PIECE_SIZE,
        "file_bytes": target.stat().st_blocks * 512,
        "verified": True,
    }
    other = tmp_path / "web [1].vmdk"
    shown = place.run("export", point.point_id[:6], "--to", str(other)).stdout
    assert f"is in {other}: vmdk, 640 KiB of disk" in shown
    assert place.json("export", "latest", "--to", str(other), status=TargetExists.exit_status)["error"]


def test_an_encrypted_point_is_exported_with_its_credential(place: Place, tmp_path: Path) -> None:
    back_up(place, 1, CONTENT, encrypted=True)
    target = tmp_path / "disk.raw"
    place.json("export", "latest", "--to", str(target), status=PassphraseWrong.exit_status)
    place.json("export", "latest", "--to", str(target), "--credential", "night")
    assert target.read_bytes() == CONTENT


def test_one_of_several_disks_is_named(place: Place, tmp_path: Path) -> None:
    machine = protected(place)
    machine.back_up()
    target = tmp_path / "b"
    words = ("export", "latest", "--to", str(target), "--format", "raw")
    error = place.json(*words, status=RequestInvalid.exit_status)["error"]
    assert error["message"].endswith("has 2 disks: a, b")
    error = place.json(*words, "--disk", "c", status=DiskNotFound.exit_status)["error"]
    assert error["hint"] == "It has a, b."
    assert place.json(*words, "--disk", "b")["disk"] == "b"
    assert target.read_bytes() == machine.kept[0].disks["b"].read(Span(0, PIECE_SIZE))


def test_a_name_that_says_no_format_needs_one(place: Place, tmp_path: Path) -> None:
    back_up(place, 1, CONTENT)
    error = place.json("export", "latest", "--to", str(tmp_path / "disk"), status=RequestInvalid.exit_status)["error"]
    assert "--format" in error["hint"]


def test_other_formats_need_their_program(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    back_up(place, 1, CONTENT)
    monkeypatch.setenv("PATH", "/nowhere")
    place.json("export", "latest", "--to", str(tmp_path / "disk.qcow2"), status=ToolMissing.exit_status)
    place.json("export", "latest", "--to", str(tmp_path / "disk.raw"))
