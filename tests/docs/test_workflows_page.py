"""The page of the workflows names what is there, completely: workflows, inputs, phases, queues, activities, times."""

import inspect
import re
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import pytest
from temporalio.workflow import ActivityCancellationType, ActivityConfig

from activities.contracts.resources import SCHEDULER_ID
from holdfast.model.ids import JobName, MachineId, ProviderName, RepositoryName, SessionId
from tests.architecture import tree
from tests.docs import pages
from tests.workers.test_roles import contracts
from workers.config import Settings
from workers.roles import CHAIN_TASKS, FRESH_TASKS, SHORT_TASKS, UPKEEP_TASKS, WORKFLOWS, Duty, Role, duty_activities
from workers.run import make_tools
from workflows import after_point, book, broken_chain, options, queues, session, turns
from workflows.backup_job import BackupJob
from workflows.limits import KEEPER_ID
from workflows.machine_backup import MachineBackup

PAGE = "docs/workflows.md"
NAME = RepositoryName("<name>")
ACTIVITY = re.compile(
    r"(?:catalog|chains|extents|files|health|moving|proxy|repository|resources|retention|snapshot|target|transfer|sessions|sweep)\.[a-z_]+"
)
WAITED_FOR = ActivityCancellationType.WAIT_CANCELLATION_COMPLETED
UNITS = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days"}
TIMES: dict[str, Callable[[], ActivityConfig]] = {
    "workflows.options.lookup": lambda: options.lookup("queue", "summary"),
    "workflows.options.look": lambda: options.look("queue", "summary"),
    "workflows.options.change": lambda: options.change("queue", "summary"),
    "workflows.options.transfer": lambda: options.transfer("queue", "summary", 0),
    "workflows.options.verification": lambda: options.verification("queue", "summary"),
    "workflows.options.relocation": lambda: options.relocation("queue", "summary"),
    "workflows.options.undo": lambda: options.undo("queue", "summary"),
    "workflows.options.removal": lambda: options.removal("queue", "summary"),
    "workflows.options.ending": lambda: options.ending("queue", "summary"),
    "workflows.options.record": lambda: options.record("queue", "summary", options.RECORD_PATIENCE),
}


PARTS: dict[type, tuple[ModuleType, ...]] = {MachineBackup: (after_point, broken_chain), BackupJob: (turns,)}
"""Other files in which phases of a workflow are entered."""


def test_every_workflow_has_its_section_and_there_are_no_others() -> None:
    titles = {
        words for level, words in pages.headings(PAGE) if level == 2 and re.fullmatch(r"(?:[A-Z][a-z]+){2}", words)
    }
    assert titles == {kind.__name__ for kind in WORKFLOWS}
    listed = [name for cells in pages.rows(PAGE, "Workflow") for name in re.findall(r"`(\w+)`", cells[0])]
    assert listed == [kind.__name__ for kind in WORKFLOWS]


def test_the_ids_are_those_that_are_built() -> None:
    written = [pages.names_in(cells[1])[0] for cells in pages.rows(PAGE, "Workflow")]
    machine = queues.machine_backup_id(RepositoryName("<repository>"), MachineId("id"), "web")
    upkeep = queues.machine_upkeep_id(RepositoryName("<repository>"), MachineId("id"), "web")
    assert written == [
        queues.backup_id(JobName("<job>")),
        f"{machine.rpartition('/')[0]}/<machine>",
        f"{upkeep.rpartition('/')[0]}/<machine>",
        queues.restore_id(SessionId("<session>")),
        queues.verify_id(RepositoryName("<repository>")),
        queues.sweep_id(ProviderName("<provider>")),
        queues.retention_id(JobName("<job>")),
        SCHEDULER_ID,
        KEEPER_ID,
        queues.health_id(RepositoryName("<repository>")),
        queues.chains_id(RepositoryName("<repository>"), "<machine>"),
        f"{machine.rpartition('/')[0]}/<machine>",
    ]


@pytest.mark.parametrize("kind", WORKFLOWS, ids=lambda kind: kind.__name__)
def test_the_guarantee_is_the_one_of_the_source(kind: type) -> None:
    [said] = re.findall(rf"^## {kind.__name__}\n\n\*\*Guarantee\.\*\* (.+)$", tree.text(PAGE), re.MULTILINE)
    stated = (sys.modules[kind.__module__].__doc__ or "").partition("Guarantee: ")[2]
    assert said.lower() == " ".join(stated.split()).lower()


@pytest.mark.parametrize("kind", WORKFLOWS, ids=lambda kind: kind.__name__)
def test_the_inputs_are_the_fields_of_the_request(kind: Any) -> None:
    written = [name for cells in pages.rows(PAGE, f"Input of `{kind.__name__}`") for name in pages.names_in(cells[0])]
    request = get_type_hints(kind.run)["request"]
    assert sorted(written) == sorted(request.__struct_fields__)


@pytest.mark.parametrize("kind", WORKFLOWS, ids=lambda kind: kind.__name__)
def test_the_phases_are_those_that_the_workflow_enters(kind: type) -> None:
    written = {name for cells in pages.rows(PAGE, f"Phase of `{kind.__name__}`") for name in pages.names_in(cells[0])}
    assert written == phases_of(kind)


def test_the_queues_and_who_serves_what_on_them(tmp_path: Path) -> None:
    tools = make_tools(Settings(home=tmp_path), AsyncExitStack())
    served: dict[str, set[str]] = {}
    for role in Role:
        duty = Duty(role=role, name="" if role is Role.CONTROL else NAME)
        served |= {queue: set(found) for queue, found in duty_activities(duty, tools).items()}
    written = {
        pages.names_in(cells[0])[0]: set(filter(ACTIVITY.fullmatch, pages.names_in(cells[2])))
        for cells in pages.rows(PAGE, "Queue")
    }
    assert written == served
    assert [cells[3].split()[0].rstrip(",") for cells in pages.rows(PAGE, "Queue")] == [
        str(SHORT_TASKS),
        str(SHORT_TASKS),
        str(SHORT_TASKS),
        "the",
        str(SHORT_TASKS),
        str(UPKEEP_TASKS),
        str(FRESH_TASKS),
        str(CHAIN_TASKS),
    ]


def test_every_activity_on_the_page_is_a_contract_and_every_contract_is_on_it() -> None:
    written = {name for name in pages.names_in(pages.prose(PAGE)) if ACTIVITY.fullmatch(name)}
    assert written == set(contracts())
    by_family = [name for cells in pages.rows(PAGE, "Family") for name in pages.names_in(cells[5])]
    assert sorted(by_family) == sorted(contracts())


@pytest.mark.parametrize("cells", pages.rows(PAGE, "Family"), ids=lambda cells: cells[0])
def test_every_timeout_is_the_one_of_the_code(cells: list[str]) -> None:
    config = TIMES[pages.names_in(cells[1])[0]]()
    assert time_in(cells[2]) == config["start_to_close_timeout"]
    assert time_in(cells[3]) == config["schedule_to_close_timeout"]
    assert (cells[4] == "waits for its end") == (config.get("cancellation_type") is WAITED_FOR)


def test_every_family_of_timeouts_is_on_the_page() -> None:
    families = {name for name, _ in inspect.getmembers(options, inspect.isfunction)}
    written = [pages.names_in(cells[1])[0] for cells in pages.rows(PAGE, "Family")]
    assert sorted(written) == sorted(f"workflows.options.{name}" for name in families)


def phases_of(kind: type) -> set[str]:
    """Return the phases that a workflow's file enters, and those of the frame it runs in."""
    parts = [sys.modules[kind.__module__], *PARTS.get(kind, ())]
    source = "".join(map(inspect.getsource, parts))
    frame = inspect.getsource(session) if "_run.carry_out(" in source else ""
    found = re.findall(r'\.enter\(f?"([a-z ]+)', source + frame)
    if "enter(TRANSFERRING)" in source:
        found.append(book.TRANSFERRING)
    return set(found)


def time_in(text: str) -> timedelta:
    """Return a time such as ``2 h 30 min``."""
    parts = re.findall(r"(\d+) (\w+)", text)
    return timedelta(**{UNITS[unit]: int(number) for number, unit in parts})
