"""Machines are registered, listed and switched."""

from pathlib import Path

import pytest

from holdfast.errors import ProviderUnavailable, RequestInvalid, TargetExists
from tests.workers.cli.place import Place


def disk(place: Place, name: str) -> Path:
    path = place.root / name
    path.write_bytes(bytes(1024))
    return path


def test_a_machine_is_registered_with_its_disks(place: Place) -> None:
    first, second = disk(place, "a.raw"), disk(place, "b=.raw")
    added = place.json("machine", "add", "web", "--disk", f"boot={first}", "--disk", str(second), "--on")
    assert added["machine"]["name"] == "web"
    found = place.json("machines")["machines"]
    assert found[0]["provider"] == "lab"
    assert found[0]["machine"]["power"] == "on"
    assert [entry["key"] for entry in found[0]["machine"]["disks"]] == ["boot", "disk-1"]
    assert "boot 1.0 KiB, disk-1 1.0 KiB" in place.run("machines", "--provider", "lab").stdout


def test_a_name_is_taken_once(place: Place) -> None:
    words = ("machine", "add", "web", "--disk", str(disk(place, "a.raw")), "--copy")
    assert place.run(*words).stdout.startswith("registered web (")
    assert place.json(*words, status=TargetExists.exit_status)["error"]["code"] == "target-exists"


def test_two_disks_of_one_key_are_refused(place: Place) -> None:
    path = disk(place, "a.raw")
    words = ("machine", "add", "web", "--disk", f"x={path}", "--disk", f"x={path}")
    assert place.json(*words, status=RequestInvalid.exit_status)["error"]


def test_a_machine_is_switched(place: Place) -> None:
    place.add_machine("web", 1)
    assert place.run("machine", "power", "web", "on").stdout == "web is on\n"
    assert place.json("machine", "power", "web", "off")["machine"]["power"] == "off"


def test_no_machines_is_said_with_what_to_do(place: Place) -> None:
    assert "holdfast machine add" in place.run("machines").stdout


def test_a_provider_that_is_gone_is_an_error_beside_what_was_found(place: Place) -> None:
    text = place.config.read_text().replace(
        "[[repositories]]", '[[providers]]\nname = "far"\npath = "far"\n[[repositories]]'
    )
    place.config.write_text(text)
    place.add_machine("web", 1)
    document = place.json("machines", status=ProviderUnavailable.exit_status)
    assert len(document["machines"]) == 1
    assert document["error"]["code"] == "provider-unavailable"
    assert "web" in place.run("machines").stdout


def test_a_provider_is_made_once(place: Place) -> None:
    marker = place.root / "lab" / "holdfast-local.json"
    before = marker.read_bytes()
    assert place.json("provider", "create", "lab")["provider"] == "lab"
    assert marker.read_bytes() == before


@pytest.mark.parametrize(
    "words", [("machine", "add", "web", "--disk", "a.raw", "--provider", "vc"), ("provider", "create", "vc")]
)
def test_machines_and_folders_are_made_at_local_providers_only(place: Place, words: tuple[str, ...]) -> None:
    place.add_vcenter()
    document = place.json(*words, status=RequestInvalid.exit_status)
    assert document["error"]["message"] == "provider vc is not local"
