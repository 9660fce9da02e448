"""A chain is drawn with characters: one row for each point, in the order of time."""

import io
from datetime import UTC, datetime

import msgspec
import pytest
from rich.console import Console

from holdfast.model.chain_view import ChainView, FileView, PointView
from workers.cli.chain_text import bar, chain_picture, keeping, state_of
from workers.cli.tables import put

WHEN = datetime(2026, 11, 21, 12, tzinfo=UTC)
MIB = 1 << 20


def point(number: int, stored: int, needs: int | None = None, machine: str = "web [1]") -> PointView:
    return PointView(
        number=number,
        id=f"{number:032x}",
        machine=machine,
        created=WHEN,
        is_complete=True,
        size_bytes=8 * MIB,
        changed_bytes=stored,
        stored_bytes=stored,
        needs=needs,
    )


def forward() -> ChainView:
    files = (
        FileView(name="00000001-full.hfc", kind="full", size_bytes=4 * MIB, points=(point(1, 4 * MIB),)),
        FileView(name="00000002-increment.hfc", kind="increment", size_bytes=MIB, points=(point(2, MIB, 1),)),
        FileView(name="00000003-increment.hfc", kind="increment", size_bytes=MIB, points=(point(3, 1, 2),)),
    )
    return ChainView(name="machines/web/[c]", id="0" * 32, is_encrypted=True, unit_size=MIB, files=files)


def drawn(view: ChainView) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=200, highlight=False)
    for part in chain_picture(view):
        put(console, part)
    return out.getvalue().splitlines()


def test_a_chain_of_increments_is_drawn_from_its_full_on() -> None:
    lines = drawn(forward())
    assert lines[0] == "machines/web/[c]  web [1]"
    assert lines[1] == "3 points in 3 files, 6.0 MiB stored, encrypted, units of 1.0 MiB"
    rows = lines[4:7]
    assert [row[:2] for row in rows] == ["┌■", "├▲", "└▲"]
    assert "████████████" in rows[0]
    assert "███ " in rows[1]
    assert "▏" in rows[2]
    assert ["point 1" in row for row in rows] == [False, True, False]
    assert lines[-1] == "■ full   ▲ increment"


def test_rollback_files_point_to_the_full_behind_them() -> None:
    old, new = point(1, 5, 2), point(2, MIB)
    files = (
        FileView(name="00000001-rollback.hfc", kind="rollback", points=(old,)),
        FileView(name="00000002-full.hfc", kind="full", points=(new,)),
    )
    lines = drawn(msgspec.structs.replace(forward(), files=files))
    assert [line[:2] for line in lines[4:6]] == ["┌▼", "└■"]


def test_one_point_needs_no_line() -> None:
    lines = drawn(msgspec.structs.replace(forward(), files=forward().files[:1]))
    assert lines[4].startswith("─■")


def test_a_chain_without_points_says_so_in_its_head() -> None:
    lines = drawn(msgspec.structs.replace(forward(), files=()))
    assert lines[0].endswith("no machine")


def test_marks_and_locks_are_named_where_there_are_any() -> None:
    assert "KEPT AS" not in "\n".join(drawn(forward()))
    kept = msgspec.structs.replace(point(1, MIB), marks=("weekly", "monthly"), locked_until=WHEN)
    assert keeping(kept).startswith("weekly, monthly, locked until 2026-11-21")
    files = (msgspec.structs.replace(forward().files[0], points=(kept,)), *forward().files[1:])
    assert "weekly, monthly, locked until" in drawn(msgspec.structs.replace(forward(), files=files))[4]


def test_a_chain_of_several_machines_names_the_machine_of_each_point() -> None:
    first = forward().files[0]
    files = (msgspec.structs.replace(first, points=(point(1, MIB, machine="db"), point(2, MIB))),)
    lines = drawn(msgspec.structs.replace(forward(), files=files))
    assert "MACHINE" in lines[3]
    assert " db " in lines[4]


def test_what_is_wrong_is_told_once() -> None:
    full, second, third = forward().files
    gone = msgspec.structs.replace(
        second, trouble="gone", points=(msgspec.structs.replace(second.points[0], trouble="gone"),)
    )
    hung = msgspec.structs.replace(
        third, points=(msgspec.structs.replace(third.points[0], trouble="point 2 is missing"),)
    )
    view = msgspec.structs.replace(
        forward(), files=(full, gone, hung), troubles=("no metadata",), leftovers=("00000009-increment.hfc",)
    )
    lines = drawn(view)
    assert [line for line in lines if line.startswith("problem")] == [
        "problem: no metadata",
        "problem: 00000002-increment.hfc: gone",
        "problem: point 3: point 2 is missing",
    ]
    assert "00000009-increment.hfc holds nothing any more" in lines


def test_the_state_of_a_point_is_a_word() -> None:
    whole = point(1, 1)
    assert state_of(whole)[0] == "sound"
    assert state_of(msgspec.structs.replace(whole, is_complete=False))[0] == "being written"
    assert state_of(msgspec.structs.replace(whole, trouble="x"))[0] == "broken"


@pytest.mark.parametrize(
    "part, whole, expected",
    [(0, 8, ""), (1, 0, ""), (8, 8, "████"), (4, 8, "██"), (1, 1000, "▏"), (9, 8, "████"), (3, 8, "█▌")],
)
def test_a_bar_is_as_long_as_its_part_and_never_hides_something(part: int, whole: int, expected: str) -> None:
    assert bar(part, whole, 4) == expected
