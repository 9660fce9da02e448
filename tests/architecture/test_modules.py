"""Modules are documented, short, and named after what they hold."""

import ast
from pathlib import PurePosixPath

from tests.architecture import tree

FUNCTION_LINES_MAX = 60
MODULE_LINES_MAX = 400

# A name that says nothing collects everything.
NAMELESS = {"base", "common", "core", "helper", "helpers", "manager", "misc", "util", "utils"}

# Longer than a module may be, with the reason.
LONG_MODULES = {
    "holdfast/errors.py": "the whole error tree is declared in one place",
    "tests/second_reader/reader.py": "one file, so that it can be handed out without the product",
}


def test_every_module_says_what_it_is_for() -> None:
    silent = [p for p in tree.python_files() if not ast.get_docstring(tree.module(p))]
    # A test folder is described by its own first file; its empty package marker may stay silent.
    silent = [p for p in silent if not (p.startswith("tests/") and not tree.text(p).strip())]
    assert silent == []


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        f"{path} {function.name}: {lines} lines"
        for path in tree.python_files()
        for function in tree.functions(path)
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert long == []


def test_no_module_grows_without_limit() -> None:
    long = {p: n for p in tree.python_files() if (n := line_count(p)) > MODULE_LINES_MAX}
    assert {p: n for p, n in long.items() if p not in LONG_MODULES} == {}


def test_every_exception_for_long_modules_is_still_needed() -> None:
    needed = {p for p in tree.python_files() if line_count(p) > MODULE_LINES_MAX}
    assert set(LONG_MODULES) <= needed


def test_no_module_or_folder_has_a_name_that_says_nothing() -> None:
    nameless = [
        path for path in tree.python_files() if NAMELESS.intersection(PurePosixPath(path).with_suffix("").parts)
    ]
    assert nameless == []


def test_every_source_folder_is_a_package() -> None:
    folders = {PurePosixPath(p).parent for p in tree.python_files(*tree.PACKAGES, "scripts")}
    assert [str(f) for f in sorted(folders) if not (tree.ROOT / f / "__init__.py").exists()] == []


def line_count(path: str) -> int:
    return len(tree.text(path).splitlines())
