"""The local provider keeps the contract of all providers."""

from collections.abc import Iterator

import pytest

from holdfast.testing.providers import ProviderConformance
from tests.holdfast.providers.local.bench import LocalBench


class TestLocalProvider(ProviderConformance):
    @pytest.fixture(autouse=True)
    def no_leftovers(self, bench: LocalBench) -> Iterator[None]:
        yield
        assert bench.leftovers() == []
