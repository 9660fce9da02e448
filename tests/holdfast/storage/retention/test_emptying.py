"""A folder goes when nothing is left in it that anybody could want."""

from pathlib import Path

import pytest

from holdfast.errors import ChainBusy
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.files.chain_lock import acquire_chain_lock
from holdfast.storage.retention.emptying import remove_empty_chain, remove_empty_machine

FILES = HostFiles()


def filled(folder: Path, *names: str) -> Path:
    FILES.make_folder(folder)
    for name in names:
        FILES.replace(folder / name, b"x")
    return folder


def test_what_belongs_to_no_file_goes_with_the_folder(tmp_path: Path) -> None:
    folder = filled(
        tmp_path / "c", "chain.hfm", "chain.keep", "chain.health", "chain.keep.new", "chain.readers", "removed.json"
    )
    assert remove_empty_chain(FILES, folder)
    assert not folder.exists()
    assert remove_empty_chain(FILES, folder)


@pytest.mark.parametrize("name", ["00000001-full.hfc", "00000001-full.hfc.removed-20260101T000000Z", "notes.txt"])
def test_anything_else_keeps_it(tmp_path: Path, name: str) -> None:
    folder = filled(tmp_path / "m" / "c", "chain.hfm", name)
    assert not remove_empty_chain(FILES, folder)
    assert not remove_empty_machine(FILES, folder.parent)
    assert sorted(path.name for path in folder.iterdir()) == sorted(["chain.hfm", name])


def test_a_chain_somebody_writes_stays(tmp_path: Path) -> None:
    folder = filled(tmp_path / "c", "chain.hfm")
    lock = acquire_chain_lock(FILES, folder)
    with pytest.raises(ChainBusy):
        remove_empty_chain(FILES, folder)
    lock.close()


def test_a_machine_goes_with_its_rules(tmp_path: Path) -> None:
    folder = filled(tmp_path / "m", "retention.json", "moved.json")
    filled(folder / "000001-00000000", "chain.hfm")
    assert remove_empty_machine(FILES, folder)
    assert not folder.exists()
