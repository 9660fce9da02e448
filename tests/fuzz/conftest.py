"""A small chain whose every byte is known, healed after each test."""

from collections.abc import Iterator

import pytest

from tests.fuzz.damage import SmallChain


@pytest.fixture(scope="module", params=[None, "correct horse"], ids=["plain", "encrypted"])
def made(request: pytest.FixtureRequest) -> SmallChain:
    return SmallChain(11, request.param)


@pytest.fixture
def chain(made: SmallChain) -> Iterator[SmallChain]:
    yield made
    made.heal()
    assert made.verify().is_good
