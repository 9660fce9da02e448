"""The world of the activities."""

from pathlib import Path

import pytest

from tests.activities.lab import Lab


@pytest.fixture
def lab(tmp_path: Path, seed: int) -> Lab:
    return Lab(tmp_path, seed)
