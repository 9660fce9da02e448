"""The files of machines that points keep are listed and written, from the files of the repository alone."""

from pathlib import Path

import pytest

from holdfast.errors import DiskWriteFailed, FileDamaged, PassphraseWrong, PointNotFound, RequestInvalid
from holdfast.model.machine_files import MachineFile
from holdfast.model.points import PointSummary
from tests.workers.cli.place import Place
from tests.workers.cli.stored import back_up

VMX = MachineFile(name="web [1].vmx", content=b'displayName = "web"\n' * 30)
NVRAM = MachineFile(name="web.nvram", content=bytes(range(256)) * 30)
FILES = (VMX, NVRAM)


def kept(place: Place, *, encrypted: bool = False) -> PointSummary:
    return back_up(place, 1, b"a" * 512, encrypted=encrypted, files=FILES)


def damage_nvram(place: Place, point: PointSummary) -> None:
    with place.repository.open_chain(point.chain, None) as chain:
        entry = chain.point(1)[1].machine_files[1]
    path = place.repository.chain_folder(point.chain) / point.file
    data = bytearray(path.read_bytes())
    data[entry.ref.offset + 90] ^= 1
    path.write_bytes(data)


def test_files_are_listed(place: Place) -> None:
    point = kept(place)
    document = place.json("points", "files", "latest")
    assert document == {
        "point": point.point_id,
        "repository": "main",
        "machine": {"id": "m1", "name": "web 01"},
        "files": [{"name": "web [1].vmx", "size_bytes": 600}, {"name": "web.nvram", "size_bytes": 7680}],
        "left_out": [],
        "written": [],
    }
    shown = place.run("points", "files", point.point_id[:8], "--machine", "web 01").stdout
    assert "web [1].vmx" in shown
    assert "7.5 KiB" in shown


def test_the_list_of_points_names_them(place: Place) -> None:
    kept(place)
    assert place.json("points")["points"][0]["files"][1] == {"name": "web.nvram", "size_bytes": 7680}


def test_files_are_written_for_their_owner_alone(place: Place, tmp_path: Path) -> None:
    kept(place)
    folder = tmp_path / "a" / "b"
    document = place.json("points", "files", "latest", "--to", str(folder))
    assert document["written"] == [str(folder / file.name) for file in FILES]
    for file in FILES:
        assert (folder / file.name).read_bytes() == file.content
        assert (folder / file.name).stat().st_mode & 0o777 == 0o600


def test_nothing_is_overwritten(place: Place, tmp_path: Path) -> None:
    """Neither a file nor a link that leads nowhere; then none of the others is written either."""
    kept(place)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / NVRAM.name).symlink_to(tmp_path / "nowhere")
    document = place.json("points", "files", "latest", "--to", str(tmp_path / "out"), status=RequestInvalid.exit_status)
    assert document["error"]["message"].endswith("web.nvram is there already")
    assert "--to" in document["error"]["hint"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == [NVRAM.name]
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_that_cannot_be_is_an_error(place: Place, tmp_path: Path) -> None:
    kept(place)
    (tmp_path / "file").write_text("")
    document = place.json(
        "points", "files", "latest", "--to", str(tmp_path / "file" / "out"), status=DiskWriteFailed.exit_status
    )
    assert document["error"]["code"] == "disk-write-failed"


def test_a_point_without_files_says_so(place: Place, tmp_path: Path) -> None:
    point = back_up(place, 1, b"a" * 512)
    result = place.run("points", "files", "latest", "--to", str(tmp_path / "out"))
    assert result.stdout == f"point {point.point_id[:12]} keeps no files of web 01\n"
    assert place.json("points", "files", "latest")["files"] == []


def test_a_damaged_file_is_named_and_the_others_are_written(place: Place, tmp_path: Path) -> None:
    damage_nvram(place, kept(place))
    document = place.json("points", "files", "latest", "--to", str(tmp_path), status=FileDamaged.exit_status)
    assert [file["name"] for file in document["files"]] == [VMX.name]
    assert [file["name"] for file in document["left_out"]] == [NVRAM.name]
    assert (tmp_path / VMX.name).read_bytes() == VMX.content
    assert not (tmp_path / NVRAM.name).exists()
    result = place.run("points", "files", "latest")
    assert "web [1].vmx" in result.stdout
    assert "error (file-damaged)" in result.stderr


def test_an_encrypted_point_needs_its_credential(place: Place) -> None:
    kept(place, encrypted=True)
    assert place.json("points", "files", "latest", "--credential", "night")["files"]
    place.json("points", "files", "latest", status=PassphraseWrong.exit_status)
    assert PassphraseWrong.code not in place.run("points", "files", "latest", "--credential", "night").stderr


@pytest.mark.parametrize("reference", ["ffffffff", ""])
def test_an_unknown_point_is_refused(place: Place, reference: str) -> None:
    place.json("points", "files", reference or "0" * 32, status=PointNotFound.exit_status)


def test_a_rebuilt_file_tells_which_files_are_lost(place: Place) -> None:
    point = kept(place)
    damage_nvram(place, point)
    path = place.repository.chain_folder(point.chain) / point.file
    with path.open("r+b") as stream:
        stream.write(bytes(8192))
    result = place.run("repository", "rebuild-file", point.chain, point.file)
    assert "the machine file web.nvram is lost" in result.stderr
