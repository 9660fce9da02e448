"""``holdfast chain map``, ``rename`` and ``move``, with a server and all workers."""

from collections.abc import Iterator

import pytest

from holdfast.errors import MachineNotFound, RequestInvalid
from holdfast.model.ids import MachineId, folder_name
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from tests.workers.cli.conftest import wait_until_polled, wait_until_quiet, workers
from tests.workers.cli.place import Place
from tests.workers.cli.stored import back_up
from tests.workers.servers import server_in
from workers.devserver import DevServerAddress

SECOND = """
[[repositories]]
name = "second"
path = "second"
[[jobs]]
name = "later"
provider = "lab"
repository = "main"
proxy = "p1"
machines = ["front"]
[[jobs]]
name = "away"
provider = "lab"
repository = "second"
proxy = "p1"
machines = ["front"]
"""


@pytest.fixture(scope="module")
def dev_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServerAddress]:
    """A server of their own: on that of other tests the workers of another installation take part."""
    with server_in(tmp_path_factory.mktemp("temporal")) as address:
        yield address


@pytest.fixture
def two(dev_server: DevServerAddress, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("two"), dev_server.grpc)
    place.config.write_text(place.config.read_text() + SECOND)
    Repository.create(place.root / "second", HostFiles(), "cd" * 16, place.clock.now())
    place.add_machine("web", 1, 2 << 20)
    place.add_machine("front", 2, 2 << 20)
    with workers(place.settings, "all"):
        wait_until_polled(place.settings, "all")
        yield place
        wait_until_quiet(place.settings)


@pytest.mark.temporal
def test_chains_are_mapped_renamed_and_moved_and_go_on(two: Place) -> None:
    first = two.json("backup", "nightly")["points"][0]
    mapped = two.run("chain", "map", "web", "--to", "front", "--job", "later")
    assert mapped.exit_code == 0, mapped.output
    document = two.json("backup", "later")
    second = document["points"][0]
    assert (second["kind"], second["chain_id"], second["number"]) == ("increment", first["chain_id"], 2)
    assert any("mapped to machine" in note for note in document["session"]["notes"])
    assert {point["machine"]["name"] for point in two.json("points", "-r", "main")["points"]} == {"front"}

    assert two.run("chain", "rename", "front", "shop window", "-r", "main").exit_code == 0
    [folder] = [path.name for path in (two.root / "repository" / "machines").iterdir()]
    assert folder == folder_name("shop window", MachineId(second["machine_id"]))
    third = two.json("backup", "later")["points"][0]
    assert (third["kind"], third["number"]) == ("increment", 3)

    moved = two.json("chain", "move", folder, "--to", "second", "--repository", "main")
    assert moved["session"]["kind"] == "chains"
    assert two.json("points", "--repository", "main")["points"] == []
    fourth = two.json("backup", "away")["points"][0]
    assert (fourth["kind"], fourth["number"], fourth["chain_id"]) == ("increment", 4, first["chain_id"])
    assert two.json("verify", "--all", "--repository", "second")["report"]["points"] == 4
    begun = two.json("backup", "later")
    assert begun["points"][0]["kind"] == "full"


def test_what_has_no_points_is_not_given_away(place: Place) -> None:
    document = place.json("chain", "rename", "web", "x", status=MachineNotFound.exit_status)
    assert document["error"]["code"] == "machine-not-found"


def test_a_job_of_another_repository_is_refused(place: Place) -> None:
    place.config.write_text(place.config.read_text() + SECOND)
    back_up(place, 1, b"a" * 65536)
    mapped = ("chain", "map", "web 01", "--to", "x", "--job", "away", "--repository", "main")
    assert "not main" in place.json(*mapped, status=RequestInvalid.exit_status)["error"]["message"]
    words = ("chain", "move", "web 01", "--to", "main", "--repository", "main")
    assert "already" in place.json(*words, status=RequestInvalid.exit_status)["error"]["message"]
