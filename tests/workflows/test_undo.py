"""Undo steps: newest first, all of them, and not stopped by anybody."""

import asyncio

import pytest

from holdfast.errors import ChainBusy, SnapshotFailed
from workflows.undo import UndoStack, UndoStep, shielded


class Diary:
    """Undo steps that write down that they ran."""

    def __init__(self) -> None:
        self.entries: list[str] = []

    def step(self, name: str, error: Exception | None = None) -> UndoStep:
        async def run() -> None:
            await asyncio.sleep(0)
            self.entries.append(name)
            if error is not None:
                raise error

        return run


async def test_steps_run_newest_first_and_once() -> None:
    diary, undo = Diary(), UndoStack()
    for name in ("a", "b", "c"):
        undo.push(name, diary.step(name))
    assert await undo.run() == []
    assert await undo.run() == []
    assert diary.entries == ["c", "b", "a"]


async def test_all_steps_run_even_if_some_fail() -> None:
    diary, undo = Diary(), UndoStack()
    undo.push("the lease", diary.step("a"))
    undo.push("the snapshot", diary.step("b", SnapshotFailed("snapshot s1 is held")))
    undo.push("the file", diary.step("c", ChainBusy("chain c1 is written")))
    assert await undo.run() == [
        "the file is left behind: chain c1 is written",
        "the snapshot is left behind: snapshot s1 is held",
    ]
    assert diary.entries == ["c", "b", "a"]


async def test_a_dropped_step_never_runs() -> None:
    diary, undo = Diary(), UndoStack()
    undo.push("a", diary.step("a"))
    undo.push("b", diary.step("b"))
    undo.drop("b")
    await undo.run()
    assert diary.entries == ["a"]


async def test_a_settled_step_runs_now_and_not_again() -> None:
    diary, undo = Diary(), UndoStack()
    undo.push("a", diary.step("a", SnapshotFailed("held")))
    undo.push("b", diary.step("b"))
    assert await undo.settle("a") == ["a is left behind: held"]
    await undo.run()
    assert diary.entries == ["a", "b"]


def test_a_step_registered_twice_is_a_defect() -> None:
    undo = UndoStack()
    undo.push("a", Diary().step("a"))
    with pytest.raises(ValueError, match="registered twice"):
        undo.push("a", Diary().step("a"))


async def test_a_defect_in_a_step_is_not_taken_for_an_error_of_the_world() -> None:
    undo = UndoStack()
    undo.push("a", Diary().step("a", ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        await undo.run()


async def test_a_cancellation_waits_for_the_undo_and_is_used_up() -> None:
    diary, undo = Diary(), UndoStack()
    release = asyncio.Event()

    async def slow() -> None:
        await release.wait()
        diary.entries.append("slow")

    undo.push("a", diary.step("a"))
    undo.push("slow", slow)
    running = asyncio.create_task(undo.run())
    for _ in range(3):
        await asyncio.sleep(0)
        running.cancel()
    await asyncio.sleep(0)
    release.set()
    assert await running == []
    assert diary.entries == ["slow", "a"]


async def test_shielded_work_that_is_cancelled_itself_says_so() -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await shielded(work())


async def test_shielded_work_keeps_its_result_when_both_come_at_once() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def work() -> int:
        return await future

    running = asyncio.create_task(shielded(work()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    future.set_result(7)
    running.cancel()
    assert await running == 7
