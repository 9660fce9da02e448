"""The local provider on an empty folder."""

from pathlib import Path

import pytest

from tests.holdfast.providers.local.bench import LocalBench


@pytest.fixture
def bench(tmp_path: Path, seed: int) -> LocalBench:
    return LocalBench(tmp_path / "provider", seed % 2**32)
