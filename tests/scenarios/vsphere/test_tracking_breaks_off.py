"""Change tracking that answers at first and then no more: the rest is compared, and the point is an increment."""

import pytest

from holdfast.model.machine import Machine
from holdfast.model.session import Outcome
from holdfast.model.spans import Span
from tests.lab.vcenter.client import MIB
from tests.scenarios.vsphere.installation import DIRECT, HTTPS
from tests.scenarios.vsphere.stage import Stage

pytestmark = [pytest.mark.slow, pytest.mark.temporal, pytest.mark.vsphere]

GRAIN = 64 << 10
AREAS = 2100
"""More than the 2,000 that one answer holds, so that a second window is asked for."""
QUESTION = "QueryChangedDiskAreas"


def scattered(stage: Stage, name: str) -> Machine:
    """Make a machine whose disk has more areas than one answer holds, all far apart."""
    machine = stage.bench.make_machine(name, [AREAS * 2 * GRAIN // MIB * MIB + MIB])
    scatter(stage, machine, b"first")
    return machine


def scatter(stage: Stage, machine: Machine, data: bytes) -> None:
    with stage.bench.path(machine.machine_id, machine.disks[0].key).open("r+b") as file:
        for span in (Span(2 * number * GRAIN, GRAIN) for number in range(AREAS)):
            file.seek(span.start)
            file.write(data)


@pytest.mark.parametrize("at", [pytest.param(3, id="samples"), pytest.param(4, id="steps")])
async def test_the_rest_of_the_disk_is_compared_and_the_session_says_so(stage: Stage, at: int) -> None:
    machine = scattered(stage, f"breaks-{at}")
    await stage.run(stage.backup(machine, DIRECT))
    files = stage.files()
    scatter(stage, machine, b"second")
    rule = stage.fault(QUESTION, "fail", fault="FileFault", at=at)
    result = await stage.run(stage.backup(machine, DIRECT))
    assert stage.hits(rule) == 1
    assert result.session.outcome is Outcome.WARNING
    [note] = [note for note in result.session.notes if machine.name in note]
    assert "compared from offset" in note
    assert "on instead of only what changed" in note
    assert stage.stored(machine) == stage.content(machine)
    await stage.expect_sound(machine, files)


async def test_what_was_written_behind_a_question_that_failed_is_read_and_the_session_says_so(stage: Stage) -> None:
    machine = scattered(stage, "unsure")
    await stage.run(stage.backup(machine, HTTPS))
    files = stage.files()
    rule = stage.fault(QUESTION, "fail", fault="FileFault", at=2)
    result = await stage.run(stage.backup(machine, HTTPS, full=True))
    assert stage.hits(rule) == 1
    assert result.session.outcome is Outcome.WARNING
    [note] = [note for note in result.session.notes if machine.name in note]
    assert "counts as written" in note
    assert stage.stored(machine) == stage.content(machine)
    await stage.expect_sound(machine, files)
