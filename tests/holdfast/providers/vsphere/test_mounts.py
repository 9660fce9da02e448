"""A disk is read from a datastore that this host sees, if it is one flat file of the right size there."""

from pathlib import Path

import msgspec
import pytest

from holdfast.errors import DiskReadFailed
from holdfast.model.ids import DiskKey
from holdfast.providers.vsphere.disk_rules import DiskFacts
from holdfast.providers.vsphere.mounts import flat_path

TEXT = '# Disk DescriptorFile\nparentCID=ffffffff\nRW 2 VMFS "a b-flat.vmdk"\n'
FACTS = DiskFacts(key=DiskKey("2000"), label="", size_bytes=1024, file="[ds] größe 100%/a b.vmdk")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "größe 100%"
    place.mkdir()
    (place / "a b.vmdk").write_text(TEXT)
    (place / "a b-flat.vmdk").write_bytes(bytes(1024))
    return place


def test_a_flat_file_is_found_beside_its_descriptor(tmp_path: Path, folder: Path) -> None:
    assert flat_path({"ds": tmp_path}, FACTS) == folder / "a b-flat.vmdk"


def test_a_datastore_that_is_not_seen_is_no_way(tmp_path: Path) -> None:
    with pytest.raises(DiskReadFailed, match="does not see datastore ds"):
        flat_path({"other": tmp_path}, FACTS)


def test_a_file_that_is_gone_is_no_way(tmp_path: Path, folder: Path) -> None:
    (folder / "a b-flat.vmdk").unlink()
    with pytest.raises(DiskReadFailed, match="No such file"):
        flat_path({"ds": tmp_path}, FACTS)


def test_a_file_of_another_size_is_no_way(tmp_path: Path, folder: Path) -> None:
    (folder / "a b-flat.vmdk").write_bytes(bytes(1023))
    with pytest.raises(DiskReadFailed, match="has 1023 bytes, the disk has 1024"):
        flat_path({"ds": tmp_path}, FACTS)


@pytest.mark.parametrize("line", ["", 'ddb.uuid = "60 00 C2 9f 00 00 00 00-00 00 00 00 00 00 00 01"\n'])
def test_a_twin_in_a_datastore_of_the_same_name_is_no_way(tmp_path: Path, folder: Path, line: str) -> None:
    (folder / "a b.vmdk").write_text(TEXT + line)
    wanted = msgspec.structs.replace(FACTS, uuid="6000C29f-0000-0000-0000-000000000002")
    with pytest.raises(DiskReadFailed, match=r"is another disk: .*, that of the disk is 6000C29f-"):
        flat_path({"ds": tmp_path}, wanted)


def test_a_file_with_the_uuid_of_the_disk_is_the_disk(tmp_path: Path, folder: Path) -> None:
    (folder / "a b.vmdk").write_text(TEXT + 'ddb.uuid = "60 00 C2 9F 00 00 00 00-00 00 00 00 00 00 00 02"\n')
    wanted = msgspec.structs.replace(FACTS, uuid="6000c29f-0000-0000-0000-000000000002")
    assert flat_path({"ds": tmp_path}, wanted) == folder / "a b-flat.vmdk"
