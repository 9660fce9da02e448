"""A host whose clock is wrong is noticed, for points carry the time that it tells."""

from datetime import UTC, datetime, timedelta

import pytest
from typing_extensions import override

from holdfast.clock import SystemClock
from holdfast.providers.vsphere.host_clock import TOLERANCE, clock_notes
from holdfast.providers.vsphere.provider import VSphereProvider
from holdfast.testing.provider_bench import MIB
from tests.holdfast.providers.vsphere.bench import VSphereBench

BEFORE = datetime(2026, 11, 7, 22, 0, tzinfo=UTC)
AFTER = BEFORE + timedelta(minutes=15)
SECOND = timedelta(seconds=1)


class Ahead(SystemClock):
    """The clock of a proxy that is a day ahead of the hosts."""

    @override
    def now(self) -> datetime:
        return super().now() + timedelta(days=1)


@pytest.mark.parametrize("created", [BEFORE - TOLERANCE, BEFORE, AFTER, AFTER + TOLERANCE])
def test_a_clock_that_is_about_right_is_not_mentioned(created: datetime) -> None:
    assert list(clock_notes(created, BEFORE, AFTER)) == []


@pytest.mark.parametrize(
    "created, words",
    [
        (BEFORE - TOLERANCE - SECOND, "behind"),
        (AFTER + TOLERANCE + SECOND, "ahead of"),
        (datetime.min.replace(tzinfo=UTC), "behind"),
    ],
)
def test_one_that_is_far_off_is(created: datetime, words: str) -> None:
    [note] = clock_notes(created, BEFORE, AFTER)
    assert f"{words} that of the proxy" in note


@pytest.mark.vsphere
def test_the_session_is_told_with_the_snapshot(bench: VSphereBench) -> None:
    machine = bench.make_machine("web", [MIB])
    with VSphereProvider(bench.settings, Ahead()) as provider:
        snapshot = provider.create_snapshot(machine.machine_id, "tag")
    assert "behind that of the proxy" in " ".join(snapshot.notes)
    assert bench.provider.create_snapshot(machine.machine_id, "another").notes == ()
