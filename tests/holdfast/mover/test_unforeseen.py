"""Whatever goes wrong on the repository's side, the proxy is told, and tries again where that can help."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from holdfast.errors import HoldfastError, LinkLost, RepositoryFull
from holdfast.formats.magic import Codec
from holdfast.mover.grants import Grant
from holdfast.mover.reading import PackedFile
from holdfast.mover.unforeseen import told
from holdfast.pipeline.restore import StoredSource
from holdfast.pipeline.sink import WritableDisk
from tests.holdfast.mover.movers import Site


class Broken:
    """A file that cannot be read for a reason that nobody thought of."""

    def __init__(self, file: PackedFile, error: Exception) -> None:
        self.pieces_per_unit = file.pieces_per_unit
        self._error = error

    def packed_unit(self, number: int) -> tuple[bytes, Codec, memoryview]:
        raise self._error


@pytest.mark.parametrize("error, code", [(MemoryError("no room"), "link-lost"), (ValueError("odd"), "internal")])
def test_a_restore_hears_of_a_unit_that_cannot_be_read(
    site: Site, error: Exception, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    opened = site.begin()
    opening = site.open_for_reading

    def broken(grant: Grant, stack: ExitStack) -> tuple[StoredSource, list[PackedFile]]:
        disk, files = opening(grant, stack)
        return disk, [Broken(file, error) for file in files]

    with site.server() as server, ThreadPoolExecutor(1) as pool:
        site.transfer(server.address, site.access(opened))
        site.finish(opened)
        site.open_for_reading = broken  # type: ignore[method-assign] # as the test wants it
        source = site.source(server.address, site.reading(opened.chain, opened.number))
        with pytest.raises(HoldfastError, match=f"failed with {type(error).__name__}: {error}") as caught:
            source.fetch(0, 0, pool, source.digest_key).result(30)
        source.close()
    assert caught.value.code == code
    assert "a session of the mover failed" in caplog.text


def test_a_backup_hears_of_a_disk_that_cannot_be_opened(site: Site) -> None:
    opened = site.begin()

    def broken(grant: Grant, lies_at: str, stack: ExitStack) -> WritableDisk:
        raise ValueError("odd")

    with site.server(broken) as server, pytest.raises(HoldfastError, match="ValueError: odd") as caught:
        site.sink(server.address, site.access(opened))
    assert (caught.value.code, caught.value.retryable) == ("internal", False)


def test_errors_of_ours_are_told_as_they_are_and_a_host_in_need_is_tried_again() -> None:
    full = RepositoryFull("no space")
    assert told(full) is full
    assert isinstance(told(OSError("no descriptors")), LinkLost)
