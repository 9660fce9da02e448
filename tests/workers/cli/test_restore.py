"""A restore needs to know where to, and brings back every byte."""

import random
import shutil

import pytest

from holdfast.errors import PassphraseWrong, PointNotFound, RequestInvalid
from tests.workers.cli.conftest import LAB_SEED
from tests.workers.cli.place import PASSPHRASE, Place
from tests.workers.cli.stored import back_up_other


@pytest.mark.parametrize("words", [(), ("--as", "x", "--original"), ("--into", "x", "--original")])
def test_it_has_to_be_clear_where_to(place: Place, words: tuple[str, ...]) -> None:
    error = place.json("restore", "latest", *words, status=RequestInvalid.exit_status)["error"]
    assert "--original" in error["hint"]


@pytest.mark.parametrize("words", [("--original", "--pool", "gold"), ("--into", "db", "--network", "a=b")])
def test_a_machine_that_exists_stays_where_it_is(place: Place, words: tuple[str, ...]) -> None:
    error = place.json("restore", "latest", *words, status=RequestInvalid.exit_status)["error"]
    assert "stays where it is" in error["message"]


@pytest.mark.parametrize("words", [("--original", "--mac", "keep"), ("--into", "db", "--uuid", "keep")])
def test_a_machine_that_exists_keeps_its_identity(place: Place, words: tuple[str, ...]) -> None:
    error = place.json("restore", "latest", *words, status=RequestInvalid.exit_status)["error"]
    assert "the identity it has" in error["message"]


@pytest.mark.parametrize("network", ["a", "=b", "a="])
def test_a_network_is_mapped_to_another(place: Place, network: str) -> None:
    words = ("restore", "latest", "--as", "x", "--network", network)
    error = place.json(*words, status=RequestInvalid.exit_status)["error"]
    assert "OLD=NEW" in error["hint"]


@pytest.mark.parametrize("words", [("--as", "x"), ("--into", "x")])
def test_only_the_original_is_rolled_back(place: Place, words: tuple[str, ...]) -> None:
    error = place.json("restore", "latest", *words, "--quick", status=RequestInvalid.exit_status)["error"]
    assert "--original" in error["hint"]


@pytest.mark.parametrize(
    "words",
    [
        ("--original", "--over", "boot"),
        ("--into", "x", "--over", "boot"),
        ("--into", "x", "--disk", "a", "--over", "boot", "--over", "data"),
    ],
)
def test_it_has_to_be_clear_which_disk_goes_over_which(place: Place, words: tuple[str, ...]) -> None:
    error = place.json("restore", "latest", *words, status=RequestInvalid.exit_status)["error"]
    assert "once for each `--disk`" in error["hint"]


def test_a_quick_rollback_chooses_by_itself_what_it_compares(place: Place) -> None:
    words = ("restore", "latest", "--original", "--quick", "--delta")
    error = place.json(*words, status=RequestInvalid.exit_status)["error"]
    assert "Leave one out" in error["hint"]


@pytest.mark.temporal
def test_a_disk_goes_over_one_of_another_machine_where_they_differ(lab: Place) -> None:
    lab.json("backup", "nightly", "--full")
    lab.json("restore", "latest", "--machine", "web", "--as", "twin")
    [disk] = lab.provider.disk_paths("twin").values()
    with disk.open("r+b") as file:
        file.write(b"changed")
    words = ("--into", "twin", "--disk", "boot", "--over", "boot", "--delta")
    document = lab.json("restore", "latest", "--machine", "web", *words)
    [task] = document["tasks"]
    assert task["detail"].startswith("delta: 4 MiB compared, 3.9 MiB equal, 64 KiB written; written and compared")
    [disk] = lab.provider.disk_paths("twin").values()
    assert disk.read_bytes() == (lab.root / "web.raw").read_bytes()


@pytest.mark.temporal
def test_a_machine_is_rolled_back(lab: Place) -> None:
    lab.json("backup", "nightly", "--full")
    disk = lab.root / "web.raw"
    before = disk.read_bytes()
    with disk.open("r+b") as file:
        file.write(b"changed")
    result = lab.run("restore", "latest", "--machine", "web", "--original", "--quick")
    assert result.exit_code == 0, result.output
    assert "quick rollback" in result.stdout
    assert disk.read_bytes() == before


@pytest.mark.temporal
def test_a_disk_is_added_to_another_machine(lab: Place) -> None:
    lab.json("backup", "nightly", "--full")
    lab.json("restore", "latest", "--machine", "web", "--as", "spare")
    document = lab.json("restore", "latest", "--machine", "web", "--into", "spare", "--disk", "boot")
    assert document["machine"]["name"] == "spare"
    assert any(disk["key"].startswith("boot of ") for disk in document["machine"]["disks"])


@pytest.mark.temporal
def test_a_place_that_the_provider_has_not_is_refused(lab: Place) -> None:
    lab.json("backup", "nightly", "--full")
    words = ("restore", "latest", "--machine", "web", "--as", "placed", "--datastore", "nfs01")
    error = lab.json(*words, status=RequestInvalid.exit_status)["error"]
    assert "one place for machines" in error["message"]


@pytest.mark.temporal
@pytest.mark.parametrize("option", ["--mac", "--uuid"])
def test_an_identity_that_the_provider_has_not_is_refused(lab: Place, option: str) -> None:
    lab.json("backup", "nightly", "--full")
    words = ("restore", "latest", "--machine", "web", "--as", "kept", option, "keep")
    error = lab.json(*words, status=RequestInvalid.exit_status)["error"]
    assert "neither MAC addresses nor a uuid" in error["message"]


@pytest.mark.temporal
def test_a_machine_is_restored_under_a_new_name(lab: Place) -> None:
    lab.json("backup", "nightly", "--full")
    document = lab.json("restore", "latest", "--machine", "web", "--as", "copy", "--on")
    assert (document["machine"]["name"], document["machine"]["power"]) == ("copy", "on")
    content = random.Random(LAB_SEED).randbytes(4 << 20)
    (disk,) = (lab.root / "lab" / "machines").glob("copy-*/*.raw")
    assert disk.read_bytes() == content


@pytest.mark.temporal
def test_a_single_disk_is_restored_over_the_original(lab: Place) -> None:
    lab.json("backup", "nightly", "--full")
    result = lab.run("restore", "latest", "--machine", "web", "--original", "--disk", "boot")
    assert result.exit_code == 0, result.output
    assert "written and compared" in result.stdout


@pytest.mark.temporal
def test_a_point_that_is_not_there_is_said(lab: Place) -> None:
    document = lab.json("restore", "ffffffffffff", "--as", "x", status=PointNotFound.exit_status)
    assert document["error"]["code"] == "point-not-found"


@pytest.mark.temporal
def test_a_restore_whose_credential_cannot_be_chosen_says_how_to_name_it(lab: Place) -> None:
    before = lab.config.read_text()
    point = back_up_other(lab, 1, "mail", PASSPHRASE)
    lab.add_second_credential("beta")
    words = ("restore", "latest", "--machine", "mail", "--as", "mail copy")
    try:
        error = lab.json(*words, status=PassphraseWrong.exit_status)["error"]
        assert "`--credential NAME`: beta, night" in error["hint"]
    finally:
        lab.config.write_text(before)
        shutil.rmtree(lab.repository.chain_folder(point.chain).parent)
