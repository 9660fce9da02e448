"""A repair gives back what is somewhere else, loses nothing, and names the rest."""

import random
from pathlib import Path

import msgspec
import pytest

from holdfast.clock import SystemClock
from holdfast.errors import ChainBroken, PassphraseWrong
from holdfast.formats.magic import SUPERBLOCK_SIZE
from holdfast.model.health import RepairReport, ScrubReport
from holdfast.model.ids import SessionId
from holdfast.model.points import Health
from holdfast.planning.scrub import ScrubRules
from holdfast.storage.chains.chain import Chain
from holdfast.storage.chains.metadata import METADATA_NAME, check_chain
from holdfast.storage.chains.repository import Repository
from holdfast.storage.health.chain_repair import ChainRepair, OtherChain
from holdfast.storage.health.folder import verify_folder
from holdfast.storage.health.scrub_run import RepositoryScrub
from holdfast.storage.intake.lifecycle import begin_point
from holdfast.testing.crash_states import crash_states
from holdfast.testing.crashfs import CrashFiles
from tests.fuzz.damage import SmallChain
from tests.fuzz.explorer import signature, tell
from tests.fuzz.verdicts import expected

EVERYTHING = 1 << 62
COPY = Path("/copy")


@pytest.fixture
def chain(made: SmallChain) -> SmallChain:
    """A chain of its own for each test, since repairs and further points change it for good."""
    return SmallChain(11, made.store.passphrase)


def scrub(chain: SmallChain) -> ScrubReport:
    run = RepositoryScrub(chain.repository, [chain.store.passphrase], SystemClock())
    return run.run(run.plan(ScrubRules(days=30), EVERYTHING), EVERYTHING, lambda _: None)


def copy_of(chain: SmallChain) -> Chain:
    files = CrashFiles([Path("/")])
    files.make_folder(COPY)
    for path, data in chain.old[-1].items():
        if path.parent == chain.folder:
            files.create(COPY / path.name).close()
            files.set_content(COPY / path.name, data)
    return Chain.open(files, COPY, chain.store.passphrase)


def repair(chain: SmallChain, *others: OtherChain) -> RepairReport:
    name = chain.repository.relative(chain.folder)
    return ChainRepair(chain.repository, name, chain.store.passphrase, others).run()


def is_sound(chain: SmallChain) -> bool:
    with chain.open() as opened:
        check_chain(chain.files, opened)
    return (
        scrub(chain).is_good
        and verify_folder(chain.files, chain.folder, chain.store.passphrase, lambda _: None).is_good
    )


def test_a_copy_gives_back_every_kind_of_byte(chain: SmallChain, seed: int) -> None:
    rng = random.Random(seed)
    fixed: dict[str, int] = {}
    for file, path in enumerate(chain.paths):
        for region in chain.regions(path):
            if region.name == "unit gap":
                continue
            roots = [summary.root for summary in chain.summaries]
            chain.flip(path, region.start + rng.randrange(region.length), rng.randrange(8))
            assert not scrub(chain).is_good
            with copy_of(chain) as copy:
                report = repair(chain, OtherChain(chain=copy, is_copy=True))
            where = f"{path.name} ({file}): {region.name} at {region.start}: {report}"
            assert report.is_good, where
            assert not report.set_aside, where
            assert report.from_copies == report.repaired_pieces - report.from_chain
            assert is_sound(chain), where
            with chain.open() as opened:
                assert [point.root for _, point in opened.points()] == roots
            fixed[region.name] = fixed.get(region.name, 0) + 1
            chain.heal()
    tell(f"repaired: {fixed}")


def flip_a(chain: SmallChain, kind: str) -> ScrubReport:
    """Damage the first record of a kind in the second file, and return what a scrub finds."""
    path = chain.paths[1]
    region = next(region for region in chain.regions(path) if region.name == kind)
    chain.flip(path, region.start + 90, 1)
    return scrub(chain)


def test_a_machine_file_without_a_copy_is_named_and_takes_nothing_with_it(chain: SmallChain) -> None:
    found = flip_a(chain, "machine file")
    report = repair(chain)
    assert not report.is_good
    assert (report.set_aside, report.files) == ((), ())
    assert {damage.reason for damage in report.damages} <= {damage.reason for damage in found.damages}
    assert {point.number for point in report.points if point.state is Health.DAMAGED} == {2}


def test_notes_without_a_copy_are_made_anew_and_do_what_the_old_ones_did(chain: SmallChain) -> None:
    flip_a(chain, "notes")
    roots = [summary.root for summary in chain.summaries]
    report = repair(chain)
    assert (report.is_good, report.notes, report.rebuilt) == (True, 1, ())
    assert is_sound(chain)
    flip_a(chain, "map")
    assert repair(chain).rebuilt, "tables are rebuilt from units and notes"
    assert is_sound(chain)
    with chain.open() as opened:
        assert [point.root for _, point in opened.points()] == roots


def test_without_a_copy_exactly_the_lost_spans_are_named(chain: SmallChain) -> None:
    path = chain.paths[0]
    region = next(region for region in chain.regions(path) if region.name == "unit body")
    pieces, _ = expected(chain, 0, region, 0)
    before = chain.files.content(path)
    chain.flip(path, region.start + 7, 3)
    scrub(chain)
    report = repair(chain)
    assert not report.is_good
    assert report.repaired_pieces == 0
    assert {(damage.point, damage.disk) for damage in report.damages} == {(point, "disk0") for point, _ in pieces}
    assert {point.number for point in report.points if point.state is Health.DAMAGED} == {p for p, _ in pieces}
    assert len(chain.files.content(path)) == len(before), "nothing was written"


def test_damaged_metadata_is_written_again_from_the_files(chain: SmallChain) -> None:
    path = chain.folder / METADATA_NAME
    chain.flip(path, 100, 2)
    report = repair(chain)
    assert (report.metadata, report.is_good) == ((chain.repository.relative(chain.folder),), True)
    assert is_sound(chain)


def test_a_file_that_is_missing_is_named_and_not_forgotten(chain: SmallChain) -> None:
    chain.files.drop(chain.paths[1])
    report = repair(chain)
    assert not report.is_good
    assert not report.set_aside
    assert any("missing" in damage.reason for damage in report.damages)


def destroy(chain: SmallChain, path: Path) -> None:
    """Leave nothing of a file that a rebuild could begin with."""
    data = bytearray(chain.files.content(path))
    for region in chain.regions(path):
        if region.name in {"contents", "slot", "unit header"}:
            data[region.start : region.start + region.length] = bytes(region.length)
    chain.files.set_content(path, bytes(data))


def test_an_increment_beyond_repair_is_set_aside_and_the_chain_goes_on(chain: SmallChain) -> None:
    destroy(chain, chain.paths[1])
    report = repair(chain)
    names = [name.rpartition("/")[2] for name in report.set_aside]
    assert names == [chain.paths[2].name, chain.paths[1].name]
    assert report.is_good
    assert {point.number: point.state for point in report.points} == {2: Health.MISSING, 3: Health.MISSING}
    assert {point.point_id for point in report.points} == {summary.point_id for summary in chain.summaries[1:]}
    kept = {path.name for path in chain.files.paths()}
    assert {f"{name}.damaged" for name in names} <= kept
    assert repair(chain).set_aside == ()
    chain.disks, chain.summaries = chain.disks[:1], chain.summaries[:1]
    chain.back_up_begun(9)
    assert chain.summaries[-1].number == 4, "numbers of lost points are not used again"
    assert is_sound(chain)


def test_a_full_beyond_repair_stays_where_it_is(chain: SmallChain) -> None:
    destroy(chain, chain.paths[0])
    names = {path.name for path in chain.files.paths()}
    report = repair(chain)
    assert not report.is_good
    assert report.set_aside == ()
    assert names <= {path.name for path in chain.files.paths()}


def test_both_superblocks_lost_are_found_again_from_the_records(chain: SmallChain) -> None:
    for slot in range(2):
        chain.flip(chain.paths[2], slot * SUPERBLOCK_SIZE + 16, 0)
    report = repair(chain)
    assert report.is_good
    assert [name.rpartition("/")[2] for name in report.rebuilt] == [f"{chain.paths[2].name}.damaged"]
    assert is_sound(chain)


def test_what_is_being_written_is_left_alone(chain: SmallChain) -> None:
    chain.disk.put(1, b"\1" * 65536)
    opened = begin_point(chain.repository, SessionId("session-9"), chain.snapshot(9), chain.store)
    region = next(region for region in chain.regions(chain.paths[0]) if region.name == "unit body")
    chain.flip(chain.paths[0], region.start, 0)
    scrub(chain)
    with copy_of(chain) as copy:
        assert repair(chain, OtherChain(chain=copy, is_copy=True)).is_good
    assert (chain.folder / opened.file) in chain.files.paths()


@pytest.mark.parametrize("copies", [0, 1])
def test_a_repair_of_a_sound_chain_changes_nothing(chain: SmallChain, copies: int) -> None:
    before = {path: chain.files.content(path) for path in chain.files.paths()}
    with copy_of(chain) as copy:
        report = repair(chain, *[OtherChain(chain=copy, is_copy=True)] * copies)
    assert report == RepairReport(chains=1)
    after = {path: chain.files.content(path) for path in chain.files.paths()}
    assert {path: data for path, data in after.items() if path in before} == before


# -- from the source -------------------------------------------------------------------------------------------------


def flip_a_unit(chain: SmallChain) -> set[int]:
    """Damage a unit of the full, let a scrub find it, and return the pieces of the newest point that it takes."""
    regions = [region for region in chain.regions(chain.paths[0]) if region.name == "unit body"]
    pieces, _ = expected(chain, 0, regions[-1], 0)
    chain.flip(chain.paths[0], regions[-1].start + 5, 4)
    assert not scrub(chain).is_good
    return {piece for point, piece in pieces if point == len(chain.summaries)}


def test_the_next_run_reads_again_what_is_lost_and_a_repair_gives_it_to_the_older_points(chain: SmallChain) -> None:
    lost = flip_a_unit(chain)
    assert lost
    opened = begin_point(chain.repository, SessionId("session-9"), chain.snapshot(9), chain.store)
    told = {piece for span in opened.damaged for piece in range(span.start >> 16, (span.start + span.length) >> 16)}
    assert lost <= told
    assert "read again" in opened.reason
    again = begin_point(chain.repository, SessionId("session-9"), chain.snapshot(9), chain.store)
    assert again.damaged == opened.damaged
    chain.back_up_begun(9)
    newest = chain.summaries[-1]
    report = verify_folder(chain.files, chain.folder, chain.store.passphrase, lambda _: None)
    assert newest.number not in {damage.point for damage in report.damages}
    assert {damage.point for damage in report.damages} == {1, 2, 3}
    healed = repair(chain)
    assert healed.from_chain == healed.repaired_pieces == 2
    assert [(damage.point, damage.offset >> 16) for damage in healed.damages] == [(1, 65541)], (
        "the source has it no more"
    )
    states = {point.number: point.state for point in healed.points}
    assert states == {1: Health.DAMAGED, 2: Health.USABLE, 3: Health.USABLE}
    assert repair(chain).repaired_pieces == 0


def test_what_the_source_has_no_more_stays_lost_in_the_older_points_only(chain: SmallChain) -> None:
    lost = flip_a_unit(chain)
    for piece in lost:
        chain.disk.put(piece, bytes([piece % 250 + 1]) * 65536)
    chain.back_up_begun(9)
    report = repair(chain)
    assert not report.is_good
    assert chain.summaries[-1].number not in {damage.point for damage in report.damages}
    assert not begin_point(chain.repository, SessionId("session-10"), chain.snapshot(10), chain.store).damaged


def damage_the_newest_map(chain: SmallChain) -> None:
    region = next(region for region in chain.regions(chain.paths[-1]) if region.name == "map")
    chain.flip(chain.paths[-1], region.start + 90, 4)
    assert not scrub(chain).is_good


def test_a_point_that_was_found_damaged_is_not_built_upon_silently(chain: SmallChain) -> None:
    damage_the_newest_map(chain)
    with pytest.raises(ChainBroken, match=r"point 3 of chain .* is damaged"):
        begin_point(chain.repository, SessionId("session-9"), chain.snapshot(9), chain.store)


def test_a_job_that_says_so_begins_anew_behind_a_damaged_point(chain: SmallChain) -> None:
    damage_the_newest_map(chain)
    store = msgspec.structs.replace(chain.store, is_full_when_broken=True)
    opened = begin_point(chain.repository, SessionId("session-9"), chain.snapshot(9), store)
    assert opened.kind == "full"
    assert opened.reason.startswith("the job begins anew then; the chain before it is damaged: point 3")


def test_a_wrong_passphrase_is_no_damage_that_begins_anything(chain: SmallChain) -> None:
    if chain.store.passphrase is None:
        return
    store = msgspec.structs.replace(chain.store, is_full_when_broken=True, passphrase="another secret")
    with pytest.raises(PassphraseWrong):
        begin_point(chain.repository, SessionId("session-9"), chain.snapshot(9), store)


# -- crashes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["notes", "machine file"])
def test_no_crash_while_records_are_stored_again_loses_anything(chain: SmallChain, seed: int, kind: str) -> None:
    flip_a(chain, kind)
    base = chain.files.copy()
    files, name = base.copy(), chain.repository.relative(chain.folder)
    seen: set[bytes] = set()
    with copy_of(chain) as copy:
        other = OtherChain(chain=copy, is_copy=True)
        ChainRepair(Repository.open(chain.repository.root, files), name, chain.store.passphrase, [other]).run()
        for state in crash_states(base, files.events, random.Random(seed), samples=1):
            left = state.files()
            if (same := signature(state.told, left)) in seen:
                continue
            seen.add(same)
            repository = Repository.open(chain.repository.root, left)
            report = ChainRepair(repository, name, chain.store.passphrase, [other]).run()
            assert report.is_good, state.description
            found = verify_folder(left, chain.folder, chain.store.passphrase, lambda _: None)
            assert found.is_good, state.description
    assert len(seen) > 10


def test_no_crash_during_a_repair_loses_what_could_be_read(chain: SmallChain, seed: int) -> None:
    flip_a_unit(chain)
    chain.back_up_begun(9)
    before = {damage.point for damage in chain.verify().damages}
    base = chain.files.copy()
    files = base.copy()
    name = chain.repository.relative(chain.folder)
    ChainRepair(Repository.open(chain.repository.root, files), name, chain.store.passphrase).run()
    seen: set[bytes] = set()
    for state in crash_states(base, files.events, random.Random(seed), samples=1):
        left = state.files()
        if (same := signature(state.told, left)) in seen:
            continue
        seen.add(same)
        found = verify_folder(left, chain.folder, chain.store.passphrase, lambda _: None)
        assert {damage.point for damage in found.damages} <= before, state.description
        report = ChainRepair(Repository.open(chain.repository.root, left), name, chain.store.passphrase).run()
        assert {damage.point for damage in report.damages} == {1}, state.description
        found = verify_folder(left, chain.folder, chain.store.passphrase, lambda _: None)
        assert {damage.point for damage in found.damages} == {1}, state.description
    tell(f"{len(seen)} different crash states")
    assert len(seen) > 10
