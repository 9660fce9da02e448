"""Nothing of a mover outlives its test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.holdfast.mover.movers import MIB, Site, nothing_stays


@pytest.fixture(autouse=True)
def _tidy() -> Iterator[None]:
    with nothing_stays():
        yield


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "repository", {"a": 4 * MIB})
