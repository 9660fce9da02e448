"""What a running session knows of itself: the source of its details, of its answers and of its result."""

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

import msgspec

from holdfast.model.ids import DiskKey, MachineId, SessionId
from holdfast.model.machine import Disk, Machine
from holdfast.model.session import Figures, Outcome, Problem, Task
from workflows.messages import SessionProgress, TaskProgress
from workflows.report import Report, Row, Table, render

WAITING = "waiting"
TRANSFERRING = "transferring"


class Book:
    """Phase, tasks, notes and figures.

    ``show`` gets the whole report, as Markdown, once for all changes of one turn of the event loop: a report of a
    thousand machines takes long to make, and an activation of a workflow has two seconds.
    """

    def __init__(self, title: str, session_id: SessionId, started: datetime, show: Callable[[str], None]) -> None:
        self.session_id = session_id
        self.started = started
        self.outcome = Outcome.RUNNING
        self.problem: Problem | None = None
        self.children: list[str] = []
        self.notes: list[str] = []
        self._title = title
        self._show_text = show
        self._phase = "starting"
        self._facts: dict[str, str] = {}
        self._tables: dict[str, Table] = {}
        self._tasks: dict[tuple[MachineId, DiskKey], tuple[Task, str]] = {}
        self._is_shown = True

    def enter(self, phase: str) -> None:
        """Say what is being done now."""
        self._phase = phase
        self._show()

    def tell(self, name: str, value: str) -> None:
        """Put a fact above the table."""
        self._facts[name] = value
        self._show()

    def lay(self, title: str, headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
        """Put a table behind the notes, in the place of the one of that title; without rows there is none."""
        self._tables[title] = Table(title=title, headings=headings, rows=tuple(rows))
        self._show()

    def note(self, texts: Iterable[str]) -> None:
        """Add what the operator should see; a session with notes ends with a warning at best."""
        self.notes += [text for text in dict.fromkeys(texts) if text not in self.notes]
        self._show()

    def expect(self, machine: Machine, disks: Iterable[Disk]) -> None:
        """Add a waiting task for each disk."""
        for disk in disks:
            task = Task(
                session_id=self.session_id,
                machine_id=machine.machine_id,
                machine_name=machine.name,
                disk=disk.key,
                outcome=Outcome.RUNNING,
                figures=Figures(size_bytes=disk.size_bytes),
            )
            self._tasks[task.machine_id, task.disk] = (task, WAITING)
        self._show()

    def replace(self, machine_id: MachineId, tasks: Iterable[Task]) -> None:
        """Put ``tasks`` in the place of all tasks of a machine."""
        new = {(task.machine_id, task.disk): (task, _STATES[task.outcome]) for task in tasks}
        entries: dict[tuple[MachineId, DiskKey], tuple[Task, str]] = {}
        for key, entry in self._tasks.items():
            entries |= new if key[0] == machine_id else {key: entry}
        self._tasks = entries | new
        self._show()

    def set_state(self, machine_id: MachineId, state: str) -> None:
        """Say in words where the unfinished disks of a machine stand."""
        for key, (task, _) in self._tasks.items():
            if key[0] == machine_id and task.outcome is Outcome.RUNNING:
                self._tasks[key] = (task, state)
        self._show()

    def put(self, task: Task, state: str = "") -> None:
        """Replace a task; its state is its outcome unless it says otherwise."""
        self._tasks[task.machine_id, task.disk] = (task, state or _STATES[task.outcome])
        self._show()

    def task(self, machine_id: MachineId, disk: DiskKey) -> Task:
        """Return a task that is expected."""
        return self._tasks[machine_id, disk][0]

    def tasks(self, machine_id: MachineId | None = None) -> tuple[Task, ...]:
        """Return all tasks, or those of a machine."""
        return tuple(task for task, _ in self._tasks.values() if machine_id in {None, task.machine_id})

    def give_up(self, outcome: Outcome, problem: Problem, machine_id: MachineId | None = None) -> tuple[Task, ...]:
        """End the unfinished tasks, all or those of a machine, and return them."""
        ended = []
        for task in self.tasks(machine_id):
            if task.outcome is Outcome.RUNNING:
                ended.append(msgspec.structs.replace(task, outcome=outcome, problem=problem))
                self.put(ended[-1])
        return tuple(ended)

    def conclude(self, outcome: Outcome, problem: Problem | None) -> None:
        """Write down how it ended."""
        self.outcome = outcome
        self.problem = problem
        self.enter("")

    @property
    def figures(self) -> Figures:
        """Return the sum over all tasks."""
        return sum((task.figures for task in self.tasks()), Figures())

    def progress(self) -> SessionProgress:
        """Return the answer to the query ``progress``."""
        tasks = tuple(
            TaskProgress(
                machine=task.machine_name,
                disk=task.disk,
                size_bytes=task.figures.size_bytes,
                state=state,
                detail=task.detail,
            )
            for task, state in self._tasks.values()
        )
        return SessionProgress(
            session_id=self.session_id,
            phase=self._phase or self.outcome.value,
            started=self.started,
            children=tuple(self.children),
            tasks=tasks,
            notes=tuple(self.notes),
        )

    def _show(self) -> None:
        """Let the report be shown behind what runs in this turn."""
        if self._is_shown:
            self._is_shown = False
            asyncio.get_running_loop().call_soon(self._show_now)

    def _show_now(self) -> None:
        self._is_shown = True
        self._show_text(render(self._report()))

    def _report(self) -> Report:
        names = {task.machine_id: task.machine_name for task, _ in self._tasks.values()}
        rows = tuple(
            Row(
                machine=task.machine_name,
                disk=task.disk,
                outcome=task.outcome,
                state=state,
                detail=_with_names(task.problem.message if task.problem is not None else task.detail, names),
                figures=task.figures,
            )
            for task, state in self._tasks.values()
        )
        return Report(
            title=self._title,
            outcome=self.outcome,
            phase=self._phase,
            facts=(("Session", self.session_id), *self._facts.items(), *_identity(names)),
            rows=rows,
            notes=tuple(_with_names(note, names) for note in self.notes),
            problem=_problem_with_names(self.problem, names),
            tables=tuple(table for table in self._tables.values() if table.rows),
        )


def _identity(names: dict[MachineId, str]) -> Iterator[tuple[str, str]]:
    """Yield the id of the machine of a session about a single one; of others it stands on their own pages."""
    if len(names) == 1:
        [(machine_id, name)] = names.items()
        if machine_id != name:
            yield "Machine id", machine_id


def _with_names(text: str, names: dict[MachineId, str]) -> str:
    """Return a text with names in the place of long ids, which people cannot tell apart."""
    return _LONG.sub(lambda found: names.get(MachineId(found[0]), found[0]), text)


def _problem_with_names(problem: Problem | None, names: dict[MachineId, str]) -> Problem | None:
    return problem and msgspec.structs.replace(problem, message=_with_names(problem.message, names))


_LONG = re.compile(r"[\w:.-]{19,}\w")
"""What may be an id that nobody reads; those of vSphere have 73 characters."""
_STATES = {
    Outcome.RUNNING: TRANSFERRING,
    Outcome.SUCCESS: "done",
    Outcome.WARNING: "done",
    Outcome.FAILED: "failed",
    Outcome.CANCELLED: "cancelled",
}
