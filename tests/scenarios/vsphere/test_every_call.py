"""Every call of the vSphere API that a session makes fails once, or takes effect and its answer is lost."""

import pytest

from holdfast.model.session import Outcome
from tests.scenarios.vsphere.installation import HTTPS
from tests.scenarios.vsphere.stage import Stage

pytestmark = [pytest.mark.slow, pytest.mark.temporal, pytest.mark.vsphere]

CHANGING = ("CreateSnapshot_Task", "RemoveSnapshot_Task")
ASKING = (
    "CreateContainerView",
    "CurrentTime",
    "ContinueRetrievePropertiesEx",
    "DestroyView",
    "FindByUuid",
    "Login",
    "QueryChangedDiskAreas",
    "RetrievePropertiesEx",
    "RetrievePropertiesEx:Task",
    "RetrieveServiceContent",
    "folder:GET",
)
FAULTS = {"fail": {"fault": "SystemError"}, "fail-task": {"fault": "SystemError"}, "drop": {}, "drop-after": {}}
ALWAYS = {
    ("CreateSnapshot_Task", "fail-task"),
    ("RemoveSnapshot_Task", "drop-after"),
    ("RetrievePropertiesEx", "fail"),
    ("FindByUuid", "drop-after"),
    ("QueryChangedDiskAreas", "fail"),
}
CASES = [
    pytest.param(method, action, marks=[] if (method, action) in ALWAYS else pytest.mark.soak, id=f"{method}-{action}")
    for method in (*CHANGING, *ASKING)
    for action in FAULTS
    if action != "fail-task" or method in CHANGING
]


async def test_a_session_calls_nothing_but_what_is_made_to_fail_here(stage: Stage) -> None:
    machine = stage.machine("recorded")
    await stage.run(stage.backup(machine.name, HTTPS))
    stage.write(machine)
    stage.control("DELETE", "/calls")
    await stage.run(stage.backup(machine.name, HTTPS))
    called = set(stage.control("GET", "/calls"))
    assert set(CHANGING) <= called <= {*CHANGING, *ASKING}


@pytest.mark.parametrize("method, action", CASES)
async def test_one_fault_costs_an_attempt_and_no_point(stage: Stage, method: str, action: str) -> None:
    machine = stage.machine(f"{method.replace(':', '-')}-{action}")
    await stage.run(stage.backup(machine.name, HTTPS))
    files = stage.files()
    stage.write(machine)
    if method == "Login":
        stage.expire_sessions()
    rule = stage.fault(method, action, **FAULTS[action])
    result = await stage.run(stage.backup(machine.name, HTTPS))
    assert stage.hits(rule) <= 1
    stage.control("DELETE", "/faults")  # a call that the session did not need is not taken from the test
    assert result.session.outcome in {Outcome.SUCCESS, Outcome.WARNING}, result.session.notes
    assert stage.stored(machine) == stage.content(machine)
    await stage.expect_sound(machine, files)
