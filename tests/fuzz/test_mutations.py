"""Whatever is done to a file, nothing but our errors comes out, and what is called good is good."""

import random
from collections.abc import Callable

import pytest

from holdfast.errors import HoldfastError
from holdfast.formats.magic import PIECE_SIZE
from holdfast.storage.chains.chain import Chain
from holdfast.storage.chains.metadata import METADATA_NAME, read_metadata
from tests.fuzz.damage import KEY, SmallChain
from tests.fuzz.explorer import tell

# -- anything at all --------------------------------------------------


def mutations(data: bytes, rng: random.Random) -> Callable[[], bytes]:
    """Return a function that gives the data with something done to it."""

    def flipped() -> bytes:
        changed = bytearray(data)
        for _ in range(rng.randrange(1, 20)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        return bytes(changed)

    def cut() -> bytes:
        return data[: rng.randrange(len(data))]

    def grown() -> bytes:
        return data + rng.randbytes(rng.randrange(1, 9000))

    def blanked() -> bytes:
        start = rng.randrange(-(-len(data) // 4096)) * 4096
        return data[:start] + bytes([rng.choice([0, 255])]) * 4096 + data[start + 4096 :]

    def moved() -> bytes:
        one, two = (rng.randrange(-(-len(data) // 512)) * 512 for _ in range(2))
        changed = bytearray(data)
        changed[one : one + 4096], changed[two : two + 4096] = data[two : two + 4096], data[one : one + 4096]
        return bytes(changed)

    def swallowed() -> bytes:
        start = rng.randrange(len(data))
        return data[:start] + data[start + rng.randrange(1, 5000) :]

    kinds = [flipped, cut, grown, blanked, moved, swallowed]
    return rng.choice(kinds)


def fuzz(chain: SmallChain, rng: random.Random, rounds: int) -> tuple[int, int]:
    """Mutate files; whatever is done, nothing but our errors comes out, and what verifies as good restores exactly."""
    errors = unharmed = 0
    for _ in range(rounds):
        path = rng.choice([*chain.paths, chain.folder / METADATA_NAME])
        chain.files.set_content(path, mutations(chain.old[-1][path], rng)())
        try:
            report = chain.verify()
            damaged = {damage.point for damage in report.damages}
            with chain.open() as opened:
                check_points(chain, opened, damaged)
                read_metadata(chain.files, chain.folder, opened.files[0].keys)
            unharmed += report.is_good
        except HoldfastError:
            errors += 1
        assert not chain.files.open_handles
        chain.heal()
    return errors, unharmed


def check_points(chain: SmallChain, opened: Chain, damaged: set[int]) -> None:
    for number, disk in enumerate(chain.disks, 1):
        if number not in damaged:
            stored = opened.disk(number, KEY)
            for run in stored.runs(0, stored.pieces):
                if run.file is not None:
                    for at in range(run.count):
                        unit, slot = divmod(run.place + at, run.file.pieces_per_unit)
                        body = bytes(run.file.read_unit(unit)[1])[slot * PIECE_SIZE : (slot + 1) * PIECE_SIZE]
                        assert body == disk.pieces[run.piece + at]


def test_no_mutation_of_a_file_brings_out_anything_but_our_errors(chain: SmallChain, seed: int) -> None:
    errors, unharmed = fuzz(chain, random.Random(seed), 150)
    tell(f"150 mutations: {errors} refused, {unharmed} harmless")


@pytest.mark.soak
def test_thousands_of_mutations_bring_out_nothing_but_our_errors(chain: SmallChain, seed: int) -> None:
    errors, unharmed = fuzz(chain, random.Random(seed), 5000)
    tell(f"5000 mutations: {errors} refused, {unharmed} harmless")
