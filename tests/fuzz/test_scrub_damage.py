"""A scrub finds a flipped bit wherever it matters, and says the same of the points as a verification does."""

import random

import pytest

from holdfast.clock import SystemClock
from holdfast.model.health import ScrubReport
from holdfast.model.points import Health
from holdfast.planning.scrub import ScrubRules
from holdfast.storage.health.health_file import HEALTH_NAME, read_health
from holdfast.storage.health.scrub_run import RepositoryScrub
from tests.fuzz.damage import Region, SmallChain, unneeded
from tests.fuzz.explorer import tell
from tests.fuzz.verdicts import expected

EVERYTHING = 1 << 62
UNTOLD = {"unit gap", "left over"}
"""Padding, and what earlier commits left behind: not a stored byte of any point."""


def scrub(chain: SmallChain, *, is_deep: bool = False) -> ScrubReport:
    run = RepositoryScrub(chain.repository, [chain.store.passphrase], SystemClock(), is_deep=is_deep)
    plan = run.plan(ScrubRules(days=30), EVERYTHING)
    return run.run(plan, EVERYTHING, lambda _: None)


def points_taken(chain: SmallChain, file: int, region: Region, ordinal: int) -> set[int]:
    pieces, whole = expected(chain, file, region, ordinal)
    return {point for point, _ in pieces} | whole


@pytest.mark.parametrize("is_deep", [False, True])
def test_a_sound_chain_is_read_whole_and_good(chain: SmallChain, *, is_deep: bool) -> None:
    report = scrub(chain, is_deep=is_deep)
    assert report.is_good
    assert report.is_done
    assert report.planned_bytes == report.stored_bytes == report.done_bytes > 0
    assert 0.7 * report.stored_bytes < report.checked_bytes < report.stored_bytes
    assert read_health(chain.files, chain.folder).points == ()


def test_a_flipped_bit_is_found_wherever_it_matters(chain: SmallChain, seed: int) -> None:
    rng = random.Random(seed)
    flips, names = 0, set()
    for file, path in enumerate(chain.paths):
        regions = chain.regions(path)
        seen: dict[str, int] = {}
        for region in regions + unneeded(regions, len(chain.files.content(path))):
            ordinal = seen[region.name] = seen.get(region.name, -1) + 1
            names.add(region.name)
            wanted = points_taken(chain, file, region, ordinal)
            chain.flip(path, region.start + rng.randrange(region.length), rng.randrange(8))
            report = scrub(chain)
            told = {point.number for point in report.points if point.state is Health.DAMAGED}
            where = f"{path.name}: {region.name} at {region.start}: {report.damages}"
            assert told == wanted, where
            assert report.is_good == (region.name in UNTOLD), where
            chain.heal()
            flips += 1
    tell(f"{flips} bits flipped in {len(names)} kinds of bytes: {sorted(names)}")


def test_damage_that_went_away_is_forgotten_when_its_bytes_are_read_again(chain: SmallChain) -> None:
    region = next(region for region in chain.regions(chain.paths[0]) if region.name == "unit body")
    chain.flip(chain.paths[0], region.start, 0)
    bad = scrub(chain)
    assert not bad.is_good
    chain.flip(chain.paths[0], region.start, 0)
    good = scrub(chain)
    assert good.is_good
    assert {point.state for point in good.points} == {Health.USABLE}
    assert {point.point_id for point in good.points} == {point.point_id for point in bad.points}


def test_known_damage_is_told_again_by_a_run_that_does_not_come_by(chain: SmallChain) -> None:
    region = next(region for region in chain.regions(chain.paths[0]) if region.name == "unit body")
    chain.flip(chain.paths[0], region.start, 0)
    before = scrub(chain)
    run = RepositoryScrub(chain.repository, [chain.store.passphrase], SystemClock())
    again = run.run(run.plan(ScrubRules(days=30), 0), EVERYTHING, lambda _: None)
    assert again.planned_bytes == 0
    assert (again.damages, again.points) == (before.damages, before.points)


def test_without_its_health_file_everything_is_read_again(chain: SmallChain) -> None:
    scrub(chain)
    run = RepositoryScrub(chain.repository, [chain.store.passphrase], SystemClock())
    assert all(step.read > chain.summaries[-1].created for step in run.plan(ScrubRules(days=30)).steps)
    chain.files.set_content(chain.folder / HEALTH_NAME, b"torn")
    assert all(step.read <= chain.summaries[-1].created for step in run.plan(ScrubRules(days=30)).steps)
