"""The bench measures what it says: the right change set, whole operations, dead processes."""

import sys
from pathlib import Path

import msgspec
import pytest

from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.compression import Compression
from holdfast.providers.raw_disks import FrozenDisk
from holdfast.testing.images import MIB, FileSystem, check_image
from tests.bench.bare import bare_calls
from tests.bench.child import Progress, read_progress
from tests.bench.index_memory import run_index_memory
from tests.bench.ledger import Ledger, markdown
from tests.bench.long_line import is_possible
from tests.bench.measure import Series, run
from tests.bench.mover import cost_us
from tests.bench.movers import (
    GARBAGE,
    LINK_SHARE,
    LINK_WHOLE,
    SENT_AGAIN,
    run_killed_movers,
    run_long_line,
    run_many,
    run_movers,
)
from tests.bench.openings import OPENING, REVERSED, run_opening
from tests.bench.ours import Ours
from tests.bench.page import AGAIN, BEGIN, END, Report, completed, write_into
from tests.bench.reference import SIZE_BYTES, Reference, changed_image, changed_pieces, reference_image
from tests.bench.retention import chains_of, plan_all
from tests.bench.rounds import run_rounds
from tests.bench.singles import READ_AGAIN, run_resume
from tests.bench.upkeep_memory import run_upkeep_memory

SCALE = 0.02


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return reference_image(tmp_path_factory.mktemp("bench"), SCALE)


def test_a_change_set_rewrites_five_per_cent_of_the_pieces() -> None:
    pieces = SIZE_BYTES // PIECE_SIZE
    numbers = changed_pieces(pieces, seed=1)
    assert 0.05 * pieces <= len(numbers) < 0.051 * pieces
    assert numbers == sorted(set(numbers)) == changed_pieces(pieces, seed=1)
    assert numbers != changed_pieces(pieces, seed=2)


def test_the_cost_of_a_message_is_that_of_both_sides() -> None:
    # Five times the goal: only a cost that grows with the data by mistake, such as a copy, is a failure here.
    sender_us, receiver_us = cost_us(1000, 300)
    assert 0 < sender_us < 100
    assert 0 < receiver_us < 100


def test_planning_merges_and_removes_for_every_machine() -> None:
    assert plan_all([chains_of(number) for number in range(10)]) == 20


@pytest.mark.tools("mke2fs", "debugfs", "e2fsck")
def test_the_image_holds_a_clean_file_system_and_is_made_once(reference: Reference) -> None:
    assert check_image(reference.path, FileSystem.EXT4).is_clean
    made = reference.path.stat().st_mtime_ns
    assert reference_image(reference.path.parent.parent, SCALE) == reference
    assert reference.path.stat().st_mtime_ns == made


@pytest.mark.slow
@pytest.mark.tools("mke2fs", "debugfs")
def test_a_round_measures_every_operation_and_restores_the_image(reference: Reference, tmp_path: Path) -> None:
    first = changed_image(reference.path, 1)
    changes = [first, changed_image(first.path, 2)]
    ledger = Ledger(tmp_path, reference, runs=1)
    run_rounds(ledger, changes, peers=[])
    found = {f"{one.section}, {one.name}": one for one in ledger.series()}
    assert found["Increment, 5 % changed, holdfast, changes known: stored / ideal"].median < 1.5
    assert found["Full, holdfast: processor"].median > 0
    assert found["Full, holdfast: peak memory"].median > 10
    assert "| holdfast: wall |" in markdown(ledger.series())
    ours = Ours(tmp_path)
    _, full = ours.full(reference.path)
    assert ours.bare(reference.path).wall_s > 0
    with FrozenDisk(reference.path) as disk:
        assert full.figures.read_bytes <= bare_calls(disk, MIB, Compression.ZSTD_1) <= SIZE_BYTES
    ours.restore()
    run(["cmp", str(reference.path), str(ours.target)])


@pytest.mark.slow
@pytest.mark.tools("mke2fs", "debugfs")
def test_two_movers_bring_the_image_over_and_back_also_when_both_are_killed(
    reference: Reference, tmp_path: Path
) -> None:
    ledger = Ledger(tmp_path, reference, runs=1)
    run_movers(ledger)
    run_killed_movers(ledger, kills=(0.2,))
    found = {one.name: one for one in ledger.series()}
    assert found["full: processor, both sides"].median > found["full: processor, proxy"].median > 0
    assert found["full: data rate"].wanted == ">= 400"
    assert found[GARBAGE].median <= 1
    assert 0 <= found[SENT_AGAIN].median <= found[READ_AGAIN].median <= reference.data_bytes / MIB


@pytest.mark.slow
def test_many_disks_are_compared_with_the_one_in_the_middle(reference: Reference, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, reference, runs=1)
    run_many(ledger, disks=8, disk_mib=4)
    found = {one.name: one.median for one in ledger.series()}
    for what in ("full", "restore"):
        assert found[f"{what}: the fastest disk / the one in the middle, time"] <= 1
        assert found[f"{what}: the slowest disk / the one in the middle, time"] >= 1
    assert list(tmp_path.glob("*.raw*")) == []


@pytest.mark.slow
def test_memory_of_maps_is_measured_by_two_disks(reference: Reference, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, reference, runs=1)
    run_index_memory(ledger, sizes=(16 * MIB, 32 * MIB))
    found = ledger.series()
    assert len(found) == 3
    assert all(one.median >= 0 for one in found)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_memory_of_upkeep_is_measured_by_what_really_moves(reference: Reference, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, reference, runs=1)
    run_upkeep_memory(ledger, sizes=(16 * MIB, 32 * MIB))
    found = {one.name: one for one in ledger.series()}
    moved = {name: one.median for name, one in found.items() if name.endswith("units moved")}
    assert [moved[f"{operation}, 0.03125 GiB: units moved"] for operation in ("merge", "compaction")] == [16, 48]
    assert moved["synthetic full, 0.03125 GiB: units moved"] == 50
    assert sum(one.goal == 64 for one in found.values()) == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_points_of_every_age_are_opened(reference: Reference, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, reference, runs=1)
    run_opening(ledger, files=4)
    for section in (OPENING, REVERSED):
        found = {one.name: one for one in ledger.series() if one.section == section}
        assert {found[f"{age}: files opened"].median for age in ("newest", "middle", "oldest")} == {5}
        assert found["newest: runs of pieces found"].median > 2
        assert sum(one.goal == 300 for one in found.values()) == 6
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_long_line_is_measured_where_one_can_be_made(reference: Reference, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, reference, runs=1)
    run_long_line(ledger, size_mib=32)
    found = {one.name: one.median for one in ledger.series()}
    assert bool(found) == is_possible()
    assert found.get(LINK_SHARE, 1) > 0
    assert 0 < found.get(LINK_WHOLE, 1) < 100
    assert found.get("full: until the line was open and greeted", 1) > 4 * 0.15


@pytest.mark.slow
@pytest.mark.tools("mke2fs", "debugfs")
def test_what_a_kill_costs_is_found(reference: Reference, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, reference, runs=1)
    run_resume(ledger, kills=(0.2,))
    lost = {one.name: one.median for one in ledger.series()}
    assert 0 < lost[READ_AGAIN] <= reference.data_bytes / MIB


def test_a_watched_process_is_killed_and_its_last_progress_is_known(tmp_path: Path) -> None:
    record = tmp_path / "progress"
    assert read_progress(record) == Progress()
    script = f"import os; open({str(record)!r}, 'wb').write(bytes([7] + [0] * 31)); os.read(os.pipe()[0], 1)"
    measured = run([sys.executable, "-c", script], watch=lambda: read_progress(record).reached_bytes == 7)
    assert measured.killed
    assert read_progress(record) == Progress(reached_bytes=7)


def test_a_report_replaces_what_an_earlier_one_wrote_into_a_page(tmp_path: Path, reference: Reference) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}old{END}after\n", encoding="utf-8")
    missed = Series(section="Full", name="wall", unit="s", values=(1.0, 3.0, 2.5), goal=2.0)
    reached = Series(section="Full", name="rate", unit="MiB/s", values=(8.0,), floor=7.0)
    bounded = Series(section="Full", name="memory", unit="MiB", values=(1.0, 9.0, 2.0), bound=8.0)
    report = Report(date="2026-01-02", facts={"kernel": "6"}, image=reference, series=[missed, reached, bounded])
    write_into(page, report)
    write_into(page, report)
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{BEGIN}")
    assert text.endswith(f"{END}after\n")
    assert text.count("| Full - wall | <= 2 s | 2.50 s | **missed** |") == 1
    assert text.count("| Full - rate | >= 7 MiB/s | 8 MiB/s | reached |") == 1
    assert text.count("| wall | 2.50 s | 1 - 3 | <= 2 | **missed** |") == 1
    assert text.count("| Full - memory | each <= 8 MiB | 9 MiB | **missed** |") == 1
    assert report.goals_missed == ["Full: wall", "Full: memory"]


def test_parts_that_are_measured_again_take_the_place_of_earlier_ones(reference: Reference) -> None:
    names = ("Full", "Verify", "Link")
    series = [Series(section=name, name="wall", unit="s", values=(1.0,)) for name in names]
    facts = {"kernel": "6", "load before and after": "0.1 and 1.0"}
    earlier = Report(date="2026-01-02", facts=facts, image=reference, series=series)
    again = [Series(section=name, name="wall", unit="s", values=(2.0,)) for name in ("New", "Verify")]
    later = Report(
        date="2026-01-03", facts=facts | {"load before and after": "2.0 and 2.0"}, image=reference, series=again
    )
    both = completed(later, earlier, ["verify", "new"])
    assert [(one.section, one.values) for one in both.series] == [
        ("Full", (1.0,)), ("Verify", (2.0,)), ("Link", (1.0,)), ("New", (2.0,)),
    ]  # fmt: skip
    assert both.date == "2026-01-02"
    assert both.facts == facts | {AGAIN: "verify, new, on 2026-01-03"}
    assert completed(later, both, ["new"]).facts[AGAIN] == "verify, new, on 2026-01-03; new, on 2026-01-03"
    elsewhere = msgspec.structs.replace(later, facts=facts | {"kernel": "7"})
    with pytest.raises(ValueError, match="another machine"):
        completed(elsewhere, earlier, [])
