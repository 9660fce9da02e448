"""What is promised of removed files is kept beside them, given before they go, and forgotten behind them."""

from pathlib import Path

import pytest

from holdfast.errors import ChainBusy
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.files.chain_lock import acquire_chain_lock
from holdfast.storage.retention.promises import PROMISES_NAME, promise, read_promises

FILES = HostFiles()
FULL, SECOND = "00000001-full.hfc", "00000002-increment.hfc"
STAMP = ".removed-20261121T150000Z"


def test_a_promise_is_kept_while_its_file_is_there(tmp_path: Path) -> None:
    assert read_promises(FILES, tmp_path) == {}
    promise(FILES, tmp_path, [FULL], 7)
    FILES.replace(tmp_path / f"{FULL}{STAMP}", b"x")
    promise(FILES, tmp_path, [SECOND], 3)
    assert read_promises(FILES, tmp_path) == {FULL: 7, SECOND: 3}
    promise(FILES, tmp_path, [FULL, SECOND], 5)
    assert read_promises(FILES, tmp_path) == {FULL: 7, SECOND: 5}
    FILES.remove(tmp_path / f"{FULL}{STAMP}")
    promise(FILES, tmp_path, [FULL], 1)
    assert read_promises(FILES, tmp_path) == {FULL: 1}


def test_it_is_not_written_without_need(tmp_path: Path) -> None:
    promise(FILES, tmp_path, [FULL], 7)
    before = (tmp_path / PROMISES_NAME).stat().st_ino
    promise(FILES, tmp_path, [FULL], 7)
    assert (tmp_path / PROMISES_NAME).stat().st_ino == before


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"format":1}', b'{"format":1,"days":{"a":"b"}}', b'{"format":1,"days":{"a":10000}}']
)
def test_a_damaged_file_promises_nothing(tmp_path: Path, content: bytes) -> None:
    FILES.replace(tmp_path / PROMISES_NAME, content)
    assert read_promises(FILES, tmp_path) == {}
    promise(FILES, tmp_path, [FULL], 7)
    assert read_promises(FILES, tmp_path) == {FULL: 7}


def test_it_waits_for_nobody(tmp_path: Path) -> None:
    lock = acquire_chain_lock(FILES, tmp_path)
    try:
        with pytest.raises(ChainBusy):
            promise(FILES, tmp_path, [FULL], 7)
    finally:
        lock.close()
