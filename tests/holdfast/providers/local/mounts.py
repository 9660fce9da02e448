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
    with _mounted_image(folder, "xfs", "-q", "-m", "reflink=1") as place:
        yield place


@contextmanager
def mounted_btrfs(folder: Path) -> Iterator[Path]:
    """Mount a new btrfs, which can share blocks between files; the test is skipped where the kernel has none."""
    require_root()
    if "btrfs" not in Path("/proc/filesystems").read_text("ascii").split():
        pytest.skip("this kernel has no btrfs, which no package of the distribution would change")
    with _mounted_image(folder, "btrfs", "-q") as place:
        yield place


@contextmanager
def _mounted_image(folder: Path, kind: str, *options: str) -> Iterator[Path]:
    require_root()
    image = folder / f"{kind}.img"
    with image.open("xb") as file:
        file.truncate(IMAGE_SIZE)
    run(f"mkfs.{kind}", *options, str(image))
    with mounted(folder / kind, "-o", "loop", str(image)) as place:
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


SHARING = [pytest.param(mounted_xfs, id="xfs"), pytest.param(mounted_btrfs, id="btrfs")]
"""File systems that can share blocks between files."""


def require_root() -> None:
    """End the test where nothing can be mounted."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")


def run(tool: str, *arguments: str) -> str:
    command = [str(find_tool(tool)), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
