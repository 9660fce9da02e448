"""Steps of the upkeep: wanted by the request alone, each once."""

from holdfast.model.ids import JobName, MachineId, RepositoryName, SessionId
from holdfast.model.retention import RetentionOptions
from workflows.messages import MachineUpkeepRequest, UpkeepOptions
from workflows.upkeep_steps import STEPS


def wanted(options: UpkeepOptions) -> list[str]:
    request = MachineUpkeepRequest(
        session_id=SessionId("s1"),
        job=JobName("nightly"),
        repository=RepositoryName("vault"),
        machine_id=MachineId("m"),
        machine_name="web",
        upkeep=options,
    )
    return [step.name for step in STEPS if step.is_wanted(request)]


def test_every_step_has_a_name_of_its_own() -> None:
    assert len({step.name for step in STEPS}) == len(STEPS)


def test_nothing_is_done_that_no_option_asks_for() -> None:
    assert wanted(UpkeepOptions()) == []
    assert wanted(UpkeepOptions(retention=RetentionOptions())) == ["Retention"]
