"""A lab vCenter for as long as a block lasts, and a session to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from holdfast.errors import ToolMissing
from tests.lab.vcenter.client import Client
from workers.vcenter_lab import VCenterAddress, VCenterLab, VCenterSettings, build


def need_lab() -> None:
    """Skip the test where no lab can be built; in CI, where one can, that is a failure (tests/conftest.py)."""
    try:
        build()
    except ToolMissing as missing:
        pytest.skip(f"the lab vCenter cannot be built here: {missing.message}. {missing.hint}")


@contextmanager
def lab_in(folder: Path, settings: VCenterSettings) -> Iterator[VCenterLab]:
    """Yield a lab that lives in a folder and is not started yet; the test is skipped where none can be built."""
    need_lab()
    lab = VCenterLab(folder, settings)
    try:
        yield lab
    finally:
        lab.kill()


@contextmanager
def session_of(address: VCenterAddress) -> Iterator[Client]:
    """Yield a session of the administrator; fault rules of earlier tests are gone, and so are those of the block."""
    client = Client(address)
    client.control("DELETE", "/faults")
    try:
        yield client
    finally:
        client.control("DELETE", "/faults")
        client.close()
