"""The book of a session: order, states and sums."""

import asyncio
import time
from datetime import UTC, datetime

import msgspec

from holdfast.model.ids import MachineId, SessionId
from holdfast.model.session import Figures, Outcome, Problem
from tests.workflows.stubs import GIB, a_machine
from workflows.book import Book

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
PROBLEM = Problem(code="disk-read-failed", message="disk0 of db cannot be read", hint="Look.")


def a_book(shown: list[str] | None = None) -> Book:
    texts: list[str] = [] if shown is None else shown
    book = Book("backup nightly", SessionId("s1"), NOON, texts.append)
    for machine in (a_machine("db", disks=2), a_machine("web")):
        book.expect(machine, machine.disks)
    return book


def states(book: Book) -> list[tuple[str, str, str]]:
    return [(task.machine, task.disk, task.state) for task in book.progress().tasks]


async def test_what_is_expected_waits_in_the_order_of_the_machines() -> None:
    assert states(a_book()) == [("db", "disk0", "waiting"), ("db", "disk1", "waiting"), ("web", "disk0", "waiting")]


async def a_turn() -> None:
    """Let the event loop do what waits for it."""
    await asyncio.sleep(0)


async def test_every_change_is_shown() -> None:
    shown: list[str] = []
    book = a_book(shown)
    book.enter("looking around")
    await a_turn()
    assert "looking around" in shown[-1]
    book.tell("Repository", "vault")
    await a_turn()
    assert "- Repository: vault" in shown[-1]
    book.note(["web: odd"])
    await a_turn()
    assert "- web: odd" in shown[-1]
    book.conclude(Outcome.FAILED, PROBLEM)
    await a_turn()
    assert "**disk-read-failed**" in shown[-1]


async def test_a_table_takes_the_place_of_the_one_of_its_title_and_without_rows_there_is_none() -> None:
    shown: list[str] = []
    book = a_book(shown)
    book.lay("Steps", ("Step", "State"), [("merge", "waiting")])
    book.lay("Points", ("Point", "Why"), [])
    book.lay("Steps", ("Step", "State"), [("merge", "done")])
    await a_turn()
    assert shown[-1].count("### Steps") == 1
    assert "| merge | \u00a0\u00a0done |" in shown[-1]
    assert "waiting |\n" not in shown[-1].partition("### Steps")[2]
    assert "### Points" not in shown[-1]


async def test_changes_of_one_turn_are_shown_together() -> None:
    shown: list[str] = []
    book = a_book(shown)
    book.enter("looking around")
    assert shown == []
    await a_turn()
    assert len(shown) == 1
    await a_turn()
    assert len(shown) == 1


async def test_a_thousand_machines_are_expected_and_given_up_within_one_activation() -> None:
    shown: list[str] = []
    book = Book("backup nightly", SessionId("s1"), NOON, shown.append)
    machines = [a_machine(f"m{number}", disks=2) for number in range(1000)]
    began_s = time.process_time()
    for machine in machines:
        book.expect(machine, machine.disks)
    await a_turn()
    assert len(book.give_up(Outcome.CANCELLED, PROBLEM)) == 2000
    await a_turn()
    # The SDK takes a workflow that runs for two seconds without a pause for a deadlock.
    assert time.process_time() - began_s < 1
    assert "2000 disks" in shown[-1].replace("\u00a0", " ")


async def test_a_state_in_words_is_of_the_unfinished_disks_of_one_machine() -> None:
    book = a_book()
    done = msgspec.structs.replace(book.tasks()[0], outcome=Outcome.SUCCESS)
    book.put(done)
    book.set_state(done.machine_id, "running")
    assert [state for *_, state in states(book)] == ["done", "running", "waiting"]


async def test_tasks_of_a_machine_are_replaced_in_place() -> None:
    book = a_book()
    first = book.tasks()[0]
    book.replace(first.machine_id, [msgspec.structs.replace(first, outcome=Outcome.SUCCESS)])
    assert states(book) == [("db", "disk0", "done"), ("web", "disk0", "waiting")]
    stranger = msgspec.structs.replace(first, machine_id="id-new", machine_name="new")
    book.replace(stranger.machine_id, [stranger])
    assert states(book)[-1] == ("new", "disk0", "transferring")


async def test_giving_up_ends_only_what_is_unfinished() -> None:
    book = a_book()
    book.put(msgspec.structs.replace(book.tasks()[0], outcome=Outcome.SUCCESS))
    ended = book.give_up(Outcome.FAILED, PROBLEM, book.tasks()[0].machine_id)
    assert [task.disk for task in ended] == ["disk1"]
    assert [state for *_, state in states(book)] == ["done", "failed", "waiting"]
    assert len(book.give_up(Outcome.CANCELLED, PROBLEM)) == 1


async def test_a_note_stands_once() -> None:
    book = a_book()
    book.note(["a", "b", "a"])
    book.note(["b", "c"])
    assert book.notes == ["a", "b", "c"]


async def test_figures_add_up() -> None:
    book = a_book()
    book.put(msgspec.structs.replace(book.tasks()[0], figures=Figures(size_bytes=GIB, read_bytes=7)))
    assert (book.figures.size_bytes, book.figures.read_bytes) == (3 * GIB, 7)


async def test_the_answer_names_phase_children_and_notes() -> None:
    book = a_book()
    book.children.append("backup-machine/r/web")
    book.note(["odd"])
    book.conclude(Outcome.WARNING, None)
    progress = book.progress()
    assert (progress.phase, progress.children, progress.notes) == ("warning", ("backup-machine/r/web",), ("odd",))
    assert progress.started == NOON


async def test_names_are_shown_in_the_place_of_long_ids_and_the_id_once() -> None:
    long = MachineId("0af3e51e-38cb-4b0f-a0fa-e17ef3a9cf2d:5021b0a2-dd6f-4ab3-9c0f-8b7e4cf1b1aa")
    shown: list[str] = []
    book = Book("backup of web", SessionId("s1"), NOON, shown.append)
    machine = msgspec.structs.replace(a_machine("web"), machine_id=long)
    book.expect(machine, machine.disks)
    book.note([f"disk 2000 of machine {long}: odd"])
    [task] = book.tasks()
    failed = msgspec.structs.replace(PROBLEM, message=f"machine {long}, disk 2000: gone. See {long}.")
    book.put(msgspec.structs.replace(task, outcome=Outcome.FAILED, problem=failed))
    book.conclude(Outcome.FAILED, failed)
    await a_turn()
    assert "- disk 2000 of machine web: odd" in shown[-1]
    assert "web (disk0): machine web, disk 2000: gone. See web." in shown[-1]
    assert "**disk-read-failed**: machine web, disk 2000: gone. See web." in shown[-1]
    assert shown[-1].count(long) == 1
    assert f"- Machine id: {long}" in shown[-1]
    assert book.notes == [f"disk 2000 of machine {long}: odd"]
