"""File systems and block devices of their own for tests that run as root."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import find_tool

IMAGE_SIZE = 320 << 20


@contextmanager
def mounted_xfs(folder: Path) -> Iterator[Path]:
    """Mount a new XFS, which can share blocks between files."""
    require_root()
    image = folder / "xfs.img"
    with image.open("xb") as file:
        file.truncate(IMAGE_SIZE)
    run("mkfs.xfs", "-q", "-m", "reflink=1", str(image))
    with mounted(folder / "xfs", "-o", "loop", str(image)) as place:
        yield place


@contextmanager
def mounted_tmpfs(folder: Path, size_bytes: int) -> Iterator[Path]:
    """Mount a small file system in memory."""
    require_root()
    with mounted(folder / "tmpfs", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs") as place:
        yield place


@contextmanager
def mounted(place: Path, *what: str) -> Iterator[Path]:
    place.mkdir()
    run("mount", *what, str(place))
    try:
        yield place
    finally:
        run("umount", str(place))


@contextmanager
def loop_device(image: Path) -> Iterator[Path]:
    """Offer a file as a block device."""
    require_root()
    device = Path(run("losetup", "--find", "--show", str(image)).strip())
    try:
        yield device
    finally:
        run("losetup", "--detach", str(device))


def require_root() -> None:
    """End the test where nothing can be mounted."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")


def run(tool: str, *arguments: str) -> str:
    command = [str(find_tool(tool)), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
