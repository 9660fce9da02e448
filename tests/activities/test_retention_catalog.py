"""What the catalog is told and asked for retention."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec

from activities.contracts import retention as contract
from activities.retention_catalog import RetentionCatalogActivities
from holdfast.catalog.database import Catalog
from holdfast.catalog.points import PointKind
from holdfast.model.ids import ChainId, FileId, JobName, PointId
from tests.activities.lab import StillClock, run, run_twice
from tests.holdfast.catalog.samples import POINT, SESSION

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


def opened(tmp_path: Path) -> tuple[Catalog, RetentionCatalogActivities]:
    clock = StillClock()
    catalog = Catalog.open(f"sqlite:///{tmp_path / 'catalog.sqlite'}", clock)
    catalog.sessions.begin(SESSION)
    catalog.points.record(msgspec.structs.replace(POINT, session_id=SESSION.session_id))
    return catalog, RetentionCatalogActivities(lambda: catalog, clock)


def test_points_that_are_gone_are_forgotten_and_a_merged_one_moves(tmp_path: Path) -> None:
    catalog, serves = opened(tmp_path)
    with catalog:
        moved = contract.PointMoved(
            point_id=POINT.point_id, file="full.hfc", file_id=FileId("e" * 32), generation=9, kind="full"
        )
        request = contract.SettlePoints(repository=POINT.repository, gone=(PointId("1" * 32),), moved=moved)
        run_twice(serves.settle, request)
        [found] = catalog.points.list()
        assert (found.file_name, found.kind) == ("full.hfc", PointKind.FULL)
        run_twice(serves.settle, contract.SettlePoints(repository=POINT.repository, gone=(POINT.point_id,)))
        assert catalog.points.list() == ()


def test_all_points_of_a_merged_file_that_machines_share_move(tmp_path: Path) -> None:
    catalog, serves = opened(tmp_path)
    other = PointId("7" * 32)
    with catalog:
        second = msgspec.structs.replace(POINT, session_id=SESSION.session_id, point_id=other, number=POINT.number + 1)
        catalog.points.record(second)
        moved = contract.PointMoved(
            point_id=POINT.point_id,
            others=(other,),
            file="full.hfc",
            file_id=FileId("e" * 32),
            generation=9,
            kind="full",
        )
        run_twice(serves.settle, contract.SettlePoints(repository=POINT.repository, moved=moved))
        assert [found.file_name for found in catalog.points.list()] == ["full.hfc", "full.hfc"]


def test_machines_with_archives_are_found_whatever_their_job_is(tmp_path: Path) -> None:
    catalog, serves = opened(tmp_path)
    ask = contract.FindMachines(
        repository=POINT.repository, job=JobName("archives"), now=NOW, timezone="UTC", only_archives=True
    )
    with catalog:
        assert run(serves.find_machines, ask).machines == ()
        archive = msgspec.structs.replace(
            POINT,
            point_id=PointId("ab" * 16),
            chain_id=ChainId("ab" * 16),
            chain="machines/a-1a2b3c4d/archive-5e6f7a8b",
        )
        catalog.points.record(archive)
        assert [one.machine_id for one in run(serves.find_machines, ask).machines] == [POINT.machine_id]


def test_a_machine_is_gone_by_the_days_of_the_job(tmp_path: Path) -> None:
    catalog, serves = opened(tmp_path)
    ask = contract.FindMachines(
        repository=POINT.repository, job=SESSION.job, now=NOW, timezone="Asia/Tokyo", gone_after_days=7
    )
    with catalog:
        [machine] = run(serves.find_machines, ask).machines
        assert (machine.last_tried, machine.is_gone) == (date(2026, 3, 2), True)  # in Tokyo it was the next day
        only = msgspec.structs.replace(ask, only_gone=True, now=NOW - timedelta(days=1))
        assert run(serves.find_machines, only).machines == ()
        never = msgspec.structs.replace(ask, gone_after_days=None)
        assert not run(serves.find_machines, never).machines[0].is_gone
