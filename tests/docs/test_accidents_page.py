"""The page of accidents names tests that are there, and all of those that are named after accidents."""

import ast
import re
from pathlib import Path

import pytest

from tests.architecture import tree
from tests.docs import pages

PAGE = "docs/accidents.md"
ROWS = pages.rows(PAGE, "Accident")
NAMED = re.compile(r"([\w/]+\.py)::(test_\w+)")
OWN = "tests/fuzz/test_accidents*.py"


def named(cell: str) -> set[tuple[str, str]]:
    """Return the tests that a cell names, each as file and function."""
    return {(found[1], found[2]) for name in pages.names_in(cell) if (found := NAMED.fullmatch(name))}


def functions_of(path: Path) -> set[str]:
    """Return the names of the tests of a file, which is read and not imported."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = {node.name for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, kinds)}
    return {name for name in found if name.startswith("test_")}


@pytest.mark.parametrize("cells", ROWS, ids=lambda cells: cells[0])
def test_each_accident_has_its_test_or_the_reason_why_it_cannot_happen(cells: list[str]) -> None:
    _, what, answer = cells
    assert what
    assert named(answer) or answer.startswith("cannot happen: because ")
    assert {f"{file}::{test}" for file, test in named(answer)} == set(pages.names_in(answer))


@pytest.mark.parametrize("file", sorted({file for cells in ROWS for file, _ in named(cells[2])}))
def test_each_test_that_the_page_names_is_there(file: str) -> None:
    wanted = {test for cells in ROWS for where, test in named(cells[2]) if where == file}
    assert wanted - functions_of(tree.ROOT / "tests" / file) == set()


def test_each_test_that_is_named_after_an_accident_is_on_the_page() -> None:
    told = {pair for cells in ROWS for pair in named(cells[2])}
    paths = sorted(tree.ROOT.glob(OWN))
    there = {(path.relative_to(tree.ROOT / "tests").as_posix(), test) for path in paths for test in functions_of(path)}
    assert len(paths) > 1
    assert there - told == set()
