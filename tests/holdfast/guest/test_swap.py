"""Swap space: the header stays, the pages go, and the memory of a machine that sleeps stays whole."""

from pathlib import Path

import pytest

from holdfast.guest.swap import signature, unneeded
from holdfast.guest.volume import VolumeState
from holdfast.model.spans import Span
from holdfast.testing.images import FileSystem, make_image
from tests.holdfast.guest.drives import MIB, patch, run, sparse, window

SIZE = 10 * MIB


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "swap.raw"
    make_image(path, FileSystem.SWAP, SIZE)
    return path


@pytest.mark.tools("mkswap")
def test_everything_behind_the_header_is_not_needed(image: Path) -> None:
    assert unneeded(window(image)) == (VolumeState.CLEAN, "", Span(4096, SIZE - 4096))


@pytest.mark.tools("mkswap")
@pytest.mark.parametrize("page", [8192, 65536])
def test_other_page_sizes_are_known(tmp_path: Path, page: int) -> None:
    path = sparse(tmp_path / "swap.raw", SIZE)
    run("mkswap", "--pagesize", str(page), path)
    assert unneeded(window(path)) == (VolumeState.CLEAN, "", Span(page, SIZE - page))


@pytest.mark.tools("mkswap")
@pytest.mark.parametrize("mark", [b"S1SUSPEND\0", b"ULSUSPEND\0", b"SWAP-SPACE"])
def test_a_sleeping_machine_keeps_its_memory(image: Path, mark: bytes) -> None:
    patch(image, 4086, mark)
    state, reason, span = unneeded(window(image))
    assert (state, span) == (VolumeState.UNCLEAN, None)
    assert "sleeps" in reason


@pytest.mark.tools("mkswap")
@pytest.mark.parametrize("header", [(2, 100), (1, 0), (1, SIZE // 4096), (1, 0xFFFFFFFF)])
def test_a_damaged_header_keeps_everything(image: Path, header: tuple[int, int]) -> None:
    patch(image, 1024, b"".join(field.to_bytes(4, "little") for field in header))
    assert unneeded(window(image))[::2] == (VolumeState.UNKNOWN, None)


def test_what_has_no_mark_is_no_swap_space() -> None:
    assert signature(window(bytes(MIB))) is None
    assert unneeded(window(bytes(MIB)))[0] is VolumeState.UNKNOWN
