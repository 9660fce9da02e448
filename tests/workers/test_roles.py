"""Every contract is served by exactly one role, on the queues that workflows send it to."""

import importlib
import inspect
import pkgutil
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from temporalio import activity, workflow

import activities.contracts
import workflows
from activities.binding import contract_name
from holdfast.model.ids import RepositoryName
from workers.config import Settings
from workers.roles import WORKFLOWS, Duty, Role, duty_activities
from workers.run import make_tools
from workflows import queues

NAMES = {Role.CONTROL: "", Role.PROXY: "p1", Role.REPOSITORY: "main"}
VAULT = RepositoryName("main")
BEHIND_A_POINT = {"repository.verify", "health.repair"}


def contracts() -> list[str]:
    """Return the names of all activity contracts."""
    found = []
    for module in pkgutil.iter_modules(activities.contracts.__path__, "activities.contracts."):
        for _, function in inspect.getmembers(importlib.import_module(module.name), inspect.isfunction):
            if activity._Definition.from_callable(function) is not None:
                found.append(contract_name(function))
    return found


def served(tmp_path: Path, role: Role) -> dict[str, set[str]]:
    """Return the names of what a role serves, by queue."""
    with_nothing = make_tools(Settings(home=tmp_path), AsyncExitStack())
    duty = Duty(role=role, name=NAMES[role])
    return {queue: set(found) for queue, found in duty_activities(duty, with_nothing).items()}


def test_every_contract_is_served_by_exactly_one_queue_of_one_role(tmp_path: Path) -> None:
    counted = Counter(name for role in Role for names in served(tmp_path, role).values() for name in names)
    # What is done behind a new point, too, has a second queue for that.
    assert counted == Counter(contracts()) + Counter(BEHIND_A_POINT)
    assert set(Counter(contracts()).values()) == {1}


@pytest.mark.parametrize(
    "role, expected",
    [
        (Role.CONTROL, [queues.CONTROL]),
        (Role.PROXY, [queues.proxy_queue("p1"), queues.look_queue("p1"), queues.transfer_queue("p1")]),
        (
            Role.REPOSITORY,
            [
                queues.repository_queue(VAULT),
                queues.upkeep_queue(VAULT),
                queues.fresh_queue(VAULT),
                queues.chain_queue(VAULT),
            ],
        ),
    ],
)
def test_the_queues_of_a_role_are_those_that_workflows_send_to(role: Role, expected: list[str], tmp_path: Path) -> None:
    assert list(served(tmp_path, role)) == expected
    assert Duty(role=role, name=NAMES[role]).queue == expected[0]


def test_long_work_has_a_queue_of_its_own(tmp_path: Path) -> None:
    transfers = {"transfer.copy_disk", "transfer.restore_disk", "transfer.roll_back_disk"}
    assert served(tmp_path, Role.PROXY)[queues.transfer_queue("p1")] == transfers
    assert served(tmp_path, Role.REPOSITORY)[queues.upkeep_queue(VAULT)] == {
        "repository.verify",
        "health.scrub",
        "health.repair",
    }
    assert served(tmp_path, Role.REPOSITORY)[queues.fresh_queue(VAULT)] == BEHIND_A_POINT


def test_every_workflow_of_the_sources_is_served() -> None:
    found = set()
    for module in pkgutil.iter_modules(workflows.__path__, "workflows."):
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if workflow._Definition.from_class(kind) is not None:
                found.add(kind)
    assert found == set(WORKFLOWS)


def test_a_workflow_is_called_like_its_class() -> None:
    assert [workflow._Definition.must_from_class(kind).name for kind in WORKFLOWS] == [k.__name__ for k in WORKFLOWS]
