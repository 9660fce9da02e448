"""How a provider that breaks one rule of the contract is put before the conformance suite."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from typing_extensions import override

from holdfast.errors import HoldfastError
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.testing.provider_bench import ProviderBench
from tests.holdfast.providers.local.bench import LocalBench

Test: TypeAlias = Callable[[ProviderBench], None]


class MutantBench(LocalBench):
    """The local bench with a provider that is not as it should be."""

    def __init__(self, root: Path, seed: int, mutant: type[LocalProvider]) -> None:
        super().__init__(root, seed)
        self.mutant = mutant
        self.provider = mutant(root, self.clock)

    @override
    def reconnect(self) -> LocalProvider:
        return self.mutant(self.root, self.clock)


def assert_found(mutant: type[LocalProvider], test: Test, tmp_path: Path) -> None:
    """Check that the good provider passes a test of the suite and the mutant does not."""
    test(LocalBench(tmp_path / "good", 1))
    with pytest.raises((AssertionError, HoldfastError)):
        test(MutantBench(tmp_path / "mutant", 1, mutant))
