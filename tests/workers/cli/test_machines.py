"""Machines are registered, listed and switched."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from typing_extensions import override

from holdfast.clock import Clock
from holdfast.errors import MachineNotFound, ProviderUnavailable, RequestInvalid, TargetExists
from holdfast.model.machine import Machine, SkippedDisk
from holdfast.model.selection import Selector, SelectorKind
from holdfast.providers.local.hypervisor import LocalProvider
from tests.workers.cli.place import Place
from workers.cli.invocation import Flags, Invocation
from workers.cli.machines import machines
from workers.credentials import Credentials
from workers.provider_settings import VSphereProviderSettings
from workers.providers import ProviderPool
from workers.vcenter_lab import VCenterAddress


class Grouped(LocalProvider):
    """A hypervisor whose machines are in folders called by their first letters, each with a disk nobody can protect."""

    @override
    def machines(self) -> Iterator[Machine]:
        skipped = (SkippedDisk(label="Hard disk 2 [x]", reason="it is shared"),)
        for machine in super().machines():
            yield msgspec.structs.replace(machine, skipped=skipped)

    @override
    def members(self, selector: Selector) -> Iterator[Machine]:
        assert selector.kind is SelectorKind.FOLDER
        return (machine for machine in self.machines() if machine.name.startswith(selector.value))

    def close(self) -> None:
        pass


def grouped(place: Place, *, json: bool = False) -> Invocation:
    """Return a run whose provider vc has the machines of lab, in folders."""

    def opened(_: VSphereProviderSettings, clock: Clock, __: Credentials) -> Grouped:
        return Grouped(place.root / "lab", clock)

    place.add_vcenter()
    for name in ("mail", "web1", "web2"):
        place.add_machine(name, 1)
    run = Invocation(Flags(config=place.config, json=json))
    run._providers = ProviderPool(run.settings, run.clock, run.settings.credentials, open_shared=opened)
    return run


@pytest.mark.parametrize(
    "references, names",
    [
        ([], ["mail", "web1", "web2"]),
        (["folder:web"], ["web1", "web2"]),
        (["web2", "folder:web", "machine:mail"], ["mail", "web1", "web2"]),
    ],
)
def test_groups_are_listed_with_every_machine_once(
    place: Place, capsys: pytest.CaptureFixture[str], references: list[str], names: list[str]
) -> None:
    machines(grouped(place, json=True), references=references, provider="vc")
    found = [entry["machine"]["name"] for entry in msgspec.json.decode(capsys.readouterr().out)["machines"]]
    assert sorted(found) == names


def test_an_empty_group_is_said(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    machines(grouped(place), references=["folder:db"], provider="vc")
    assert capsys.readouterr().out == "no machines there\n"


def test_disks_that_cannot_be_protected_are_named_below(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    run = grouped(place)
    machines(run, references=["folder:mail"], provider="vc")
    shown = capsys.readouterr()
    assert "mail" in shown.out
    assert shown.err == "warning: mail: disk Hard disk 2 [x] is not protected: it is shared\n"
    run.flags = Flags(json=True)
    machines(run, references=["folder:mail"], provider="vc")
    out, err = capsys.readouterr()
    (entry,) = msgspec.json.decode(out)["machines"]
    assert entry["machine"]["skipped"] == [{"label": "Hard disk 2 [x]", "reason": "it is shared"}]
    assert not err


def test_a_group_needs_one_provider_that_has_it(place: Place) -> None:
    document = place.json("machines", "--in", "folder:/prod", status=RequestInvalid.exit_status)
    assert document["error"]["message"] == "the local provider has no folders"
    place.add_vcenter()
    document = place.json("machines", "--in", "folder:/prod", status=RequestInvalid.exit_status)
    assert document["error"]["message"] == "the configuration has several: lab, vc"


def test_one_machine_of_a_provider_is_listed(place: Place) -> None:
    place.add_machine("web", 1)
    place.add_machine("[mail]", 2)
    assert [entry["machine"]["name"] for entry in place.json("machines", "--in", "web")["machines"]] == ["web"]
    assert "[mail]" in place.run("machines", "--in", "[mail]").stdout
    assert place.json("machines", "--in", "ghost", status=MachineNotFound.exit_status)["machines"] == []


@pytest.mark.vsphere
def test_machines_of_a_vcenter_are_listed_beside_others(place: Place, vcenter: VCenterAddress) -> None:
    place.add_machine("web", 1)
    place.add_vcenter(vcenter)
    found = place.json("machines")["machines"]
    assert [(entry["provider"], entry["machine"]["name"]) for entry in found] == [
        ("lab", "web"),
        ("vc", "DC0_H0_VM0"),
        ("vc", "DC0_H0_VM1"),
    ]


@pytest.mark.vsphere
def test_a_folder_of_a_vcenter_is_listed(place: Place, vcenter: VCenterAddress) -> None:
    place.add_vcenter(vcenter)
    words = ("machines", "--provider", "vc", "--in")
    found = place.json(*words, "folder:/DC0/vm", "--in", "DC0_H0_VM1")["machines"]
    assert sorted(entry["machine"]["name"] for entry in found) == ["DC0_H0_VM0", "DC0_H0_VM1"]
    assert place.json(*words, "folder:/nowhere", status=RequestInvalid.exit_status)["machines"] == []


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


@pytest.mark.parametrize("name", ["mail [old]", "mail [/old]"])
def test_a_name_that_looks_like_markup_is_a_name(place: Place, name: str) -> None:
    added = place.run("machine", "add", name, "--disk", str(disk(place, "a.raw")))
    assert (added.exit_code, added.stderr) == (0, "")
    assert added.stdout.startswith(f"registered {name} (")
    (line,) = [line for line in place.run("machines").stdout.splitlines() if "mail" in line]
    assert line.startswith(f"{name}  off")
    assert place.run("machine", "power", name, "on").stdout == f"{name} is on\n"
    assert place.run("machine", "reset-tracking", name).stdout == f"the change tracking of {name} begins anew\n"


def test_two_disks_of_one_key_are_refused(place: Place) -> None:
    path = disk(place, "a.raw")
    words = ("machine", "add", "web", "--disk", f"x={path}", "--disk", f"x={path}")
    assert place.json(*words, status=RequestInvalid.exit_status)["error"]


def test_a_machine_is_switched(place: Place) -> None:
    place.add_machine("web", 1)
    assert place.run("machine", "power", "web", "on").stdout == "web is on\n"
    assert place.json("machine", "power", "web", "off")["machine"]["power"] == "off"


def test_the_change_tracking_of_a_machine_begins_anew(place: Place) -> None:
    place.add_machine("web", 1)
    assert place.run("machine", "reset-tracking", "web").stdout == "the change tracking of web begins anew\n"
    assert place.json("machine", "reset-tracking", "nobody", status=MachineNotFound.exit_status)["error"]


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
