"""Only a disk that is one flat file is read from its file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import DiskReadFailed
from holdfast.providers.vsphere.descriptors import flat_file

MIB = 1 << 20


def descriptor(extents: str, parent: str = "ffffffff") -> str:
    head = f'# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID={parent}\ncreateType="vmfs"\n\n'
    return f'{head}# Extent description\n{extents}\n\nddb.uuid = "60 00"\n'


@pytest.mark.parametrize(
    "extent, file",
    [
        ('RW 2048 VMFS "web-flat.vmdk"', "web-flat.vmdk"),
        ('RW 2048 VMFS "a b-flat.vmdk" ', "a b-flat.vmdk"),
        ('RDONLY 2048 FLAT "web-f001.vmdk" 0', "web-f001.vmdk"),
        ('RW 2048 VMFS "größe%20-flat.vmdk"', "größe%20-flat.vmdk"),
    ],
)
def test_a_flat_disk_names_its_file(extent: str, file: str) -> None:
    assert flat_file(descriptor(extent), MIB, "d") == file


@pytest.mark.parametrize(
    "text, reason",
    [
        ("KDMV\0\0", "no descriptor"),
        ("", "no descriptor"),
        (descriptor('RW 2048 VMFSSPARSE "web-000001-delta.vmdk"'), "VMFSSPARSE"),
        (descriptor('RW 2048 SESPARSE "web-000001-sesparse.vmdk"', "0a1b2c3d"), "child of another"),
        (descriptor('RW 1024 FLAT "a-f001.vmdk" 0\nRW 1024 FLAT "a-f002.vmdk" 0'), "FLAT, FLAT"),
        (descriptor('RW 2048 FLAT "../other/disk-flat.vmdk" 0'), "none"),
        (descriptor('RW 2048 FLAT "a-f001.vmdk" 512'), "none"),
        (descriptor('RW 4096 VMFS "web-flat.vmdk"'), "says 2097152 bytes, the disk has 1048576"),
    ],
)
def test_any_other_disk_is_not_read_from_a_file(text: str, reason: str) -> None:
    with pytest.raises(DiskReadFailed, match=reason):
        flat_file(text, MIB, "[ds] web/web.vmdk")


@given(st.text())
def test_any_text_is_a_file_or_refused(text: str) -> None:
    try:
        assert "/" not in flat_file("# Disk DescriptorFile\n" + text, MIB, "d")
    except DiskReadFailed:
        return
