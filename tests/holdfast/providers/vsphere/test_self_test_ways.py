"""Each way to read is tried by itself; a broken one is a failure only when it is the only one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.errors import DiskReadFailed, ToolMissing
from holdfast.model.plan import TransportMode
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.disk_rules import path_in_datastore
from holdfast.providers.vsphere.self_test import Finding, Verdict
from holdfast.providers.vsphere.self_test_ways import Sample, try_ways
from tests.holdfast.providers.vsphere.bench import VSphereBench
from tests.lab.vcenter.client import disks

pytestmark = [pytest.mark.vsphere, pytest.mark.tools("nbdkit")]

MIB = 1 << 20
ONLY = {mode: (mode,) for mode in TransportMode}


class Ways:
    """The ways to one machine with one disk."""

    def __init__(self, bench: VSphereBench, connection: Connection) -> None:
        self._bench, self._connection = bench, connection
        self.vm = bench.vm(bench.make_machine("web", [MIB]).machine_id)
        self.file = disks(self.vm.config)[0].backing.fileName
        self.store = bench.store

    @property
    def path(self) -> Path:
        return self._bench.settings.mounts[self.store] / path_in_datastore(self.file)

    def found(self, *more: Sample, **changes: Any) -> dict[str, Finding]:
        settings = msgspec.structs.replace(self._bench.settings, **changes)
        samples = {self.store: [*more, Sample(machine=self.vm, file=self.file)]}
        return {one.check: one for one in try_ways(self._connection, settings, [self.store], samples)}


@pytest.fixture
def ways(bench: VSphereBench) -> Iterator[Ways]:
    with Connection(bench.settings.endpoint) as connection:
        yield Ways(bench, connection)


def test_every_way_works_in_the_lab(ways: Ways) -> None:
    found = ways.found()
    assert len(found) == len(TransportMode)
    assert {one.verdict for one in found.values()} == {Verdict.OK}


def test_a_way_that_is_not_allowed_is_not_tried(ways: Ways) -> None:
    found = ways.found(transports=(TransportMode.HTTPS,))
    assert found["transport direct"].text == found["transport network"].text == "not among `transports` of the provider"


def test_without_mounts_there_is_nothing_direct(ways: Ways) -> None:
    assert "no datastore is mounted here" in ways.found(mounts={})["transport direct"].text


def test_mounts_that_are_wrong_are_told_apart(ways: Ways, tmp_path: Path) -> None:
    check = f"transport direct, datastore {ways.store}"
    unknown = ways.found(mounts={"nowhere": tmp_path})["transport direct, datastore nowhere"]
    assert (unknown.verdict, unknown.text) == (Verdict.WARNING, "the vCenter shows no datastore nowhere")
    assert "is no folder" in ways.found(mounts={ways.store: tmp_path / "x"})[check].text
    assert "cannot be read" in ways.found(mounts={ways.store: tmp_path})[check].text
    twin = tmp_path / path_in_datastore(ways.file)
    twin.parent.mkdir()
    twin.write_text("something else")
    assert "is no description of a disk" in ways.found(mounts={ways.store: tmp_path})[check].text


def test_a_way_that_is_the_only_one_fails(ways: Ways, tmp_path: Path) -> None:
    check = f"transport direct, datastore {ways.store}"
    finding = ways.found(mounts={ways.store: tmp_path}, transports=ONLY[TransportMode.DIRECT])[check]
    assert (finding.verdict, finding.code) == (Verdict.FAILED, DiskReadFailed.code)
    network = ways.found(nbdkit_plugin=("no-such-plugin",), transports=ONLY[TransportMode.NETWORK])
    assert network["transport network"].code == ToolMissing.code


def test_one_file_that_cannot_be_fetched_does_not_speak_for_its_datastore(ways: Ways) -> None:
    gone = Sample(machine=ways.vm, file=f"[{ways.store}] gone/gone.vmdk")
    check = f"transport https, datastore {ways.store}"
    assert ways.found(gone)[check].verdict is Verdict.OK
    ways.path.unlink()
    assert ways.found(gone)[check].verdict is Verdict.WARNING
