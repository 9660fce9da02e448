"""Reading a chain file again: span by span, every record once; what is wrong is told with its unit or table.

tests/fuzz/test_scrub_damage.py flips a bit in every kind of byte.
"""

import errno
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from holdfast.errors import OperationCancelled, StoreFailed
from holdfast.storage.chains.chain import Chain
from holdfast.storage.health.scrubber import FileScrub
from tests.fuzz.damage import SmallChain


@pytest.fixture
def small() -> SmallChain:
    return SmallChain(7)


@pytest.fixture
def chain(small: SmallChain) -> Iterator[Chain]:
    with small.open() as opened:
        yield opened


def test_spans_together_read_what_the_whole_reads(chain: Chain) -> None:
    file = chain.files[0]
    end = file.superblock.end
    whole = FileScrub(file, lambda _: None).read(0, end)
    scrub = FileScrub(file, lambda _: None)
    parts = [scrub.read(start, min(start + 50_000, end)) for start in range(0, end, 50_000)]
    assert sum(part.checked_bytes for part in parts) == whole.checked_bytes > 0
    assert not whole.units
    assert whole.problem == ""


def test_every_record_is_announced_before_it_is_read(chain: Chain) -> None:
    lengths: list[int] = []
    read = FileScrub(chain.files[0], lengths.append).read(0, chain.files[0].superblock.end)
    assert sum(lengths) == read.checked_bytes


def test_superblocks_are_read_from_the_medium_too(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    handle, calls = chain.files[0].handle, list[tuple[str, int]]()
    scrub = FileScrub(chain.files[0], lambda _: None)

    def note(name: str, usual: Callable[..., object], offset: int, length: int) -> object:
        calls.append((name, offset))
        return usual(offset, length)

    for name in ("read", "forget"):
        monkeypatch.setattr(handle, name, partial(note, name, getattr(handle, name)))
    scrub.read(0, chain.files[0].superblock.end)
    assert calls.index(("forget", 0)) < calls.index(("read", 0))


def test_who_waits_may_end_it(chain: Chain) -> None:
    def stop(_: int) -> None:
        raise OperationCancelled("enough")

    with pytest.raises(OperationCancelled):
        FileScrub(chain.files[0], stop).read(0, 1 << 40)


def test_a_unit_that_cannot_be_read_once_is_read_again(small: SmallChain, monkeypatch: pytest.MonkeyPatch) -> None:
    with small.open() as chain:
        file = chain.files[0]
        usual, failed = file.sealed_unit, list[int]()

        def sealed_unit(number: int) -> object:
            if number not in failed:
                failed.append(number)
                raise StoreFailed(f"cannot read: {errno.EIO}")
            return usual(number)

        monkeypatch.setattr(file, "sealed_unit", sealed_unit)
        assert not FileScrub(file, lambda _: None).read(0, file.superblock.end).units
        assert failed


def test_the_units_of_a_lost_page_of_their_table_are_lost(small: SmallChain) -> None:
    region = next(region for region in small.regions(small.paths[0]) if region.name == "units")
    small.flip(small.paths[0], region.start + 100, 1)
    with small.open() as chain:
        file = chain.files[0]
        scrub = FileScrub(file, lambda _: None)
        read = scrub.read(0, file.superblock.end)
        assert set(read.units) == set(range(file.contents.units.count))
        assert "cannot be read" in read.problem
        assert not scrub.lies_in(0, 0, file.superblock.end)


def test_tables_alone_can_be_looked_at(small: SmallChain) -> None:
    notes = next(region for region in small.regions(small.paths[1]) if region.name == "notes")
    small.flip(small.paths[1], notes.start + 100, 1)
    with small.open() as chain:
        good, bad = (FileScrub(file, lambda _: None) for file in chain.files[:2])
        assert good.tables() == ""
        assert "cannot be read" in bad.tables()
        assert bad.tables(needed_only=True) == ""
