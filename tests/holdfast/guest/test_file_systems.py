"""A volume is opened as the file system whose mark it bears."""

from pathlib import Path

import pytest

from holdfast.guest import signatures
from holdfast.guest.ext_files import ExtFiles
from holdfast.guest.file_systems import files_of, open_file_system
from holdfast.guest.ntfs_files import NtfsFiles
from holdfast.guest.signatures import marks
from holdfast.guest.window import DAMAGED, Implausible
from holdfast.guest.xfs_files import XfsFiles
from holdfast.testing.images import FileSystem, make_image
from tests.holdfast.guest.drives import window

SIZES = {FileSystem.EXT4: 8 << 20, FileSystem.XFS: 320 << 20, FileSystem.NTFS: 8 << 20}
KINDS = {FileSystem.EXT4: ExtFiles, FileSystem.XFS: XfsFiles, FileSystem.NTFS: NtfsFiles}


@pytest.mark.parametrize("kind", KINDS)
def test_each_file_system_is_opened_with_its_files(tmp_path: Path, kind: FileSystem) -> None:
    path = tmp_path / "image"
    make_image(path, kind, SIZES[kind])
    volume = window(path)
    assert isinstance(files_of(open_file_system(marks(volume)[0], volume)), KINDS[kind])


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(Implausible, match="nothing is known here of btrfs"):
        open_file_system("btrfs", window(bytes(4096)))
    for kind in (signatures.EXT, signatures.XFS, signatures.NTFS):
        with pytest.raises(DAMAGED):
            open_file_system(kind, window(bytes(1 << 20)))
