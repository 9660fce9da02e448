"""Tests stand where their sources stand, so that each is found from the other."""

import ast
from pathlib import PurePosixPath

import pytest

from tests.architecture import tree

# Sources tested from elsewhere, with the place.
TESTED_ELSEWHERE: dict[str, str] = {
    "activities/sessions.py": "tests/workflows/test_backup_job.py, which has children to follow",
    "workflows/children.py": "tests/workflows/test_backup_job.py, whose children are started and found",
    "workers/demo/story.py": "tests/workers/cli/test_demo.py plays it",
}

# Stubs whose bodies never run; the tests of the workers' roles prove that each is served.
CONTRACTS = "activities/contracts/"
STUB_BODY = "raise AssertionError(request)"


def test_every_test_folder_is_a_package() -> None:
    # One missing marker makes tests/workflows pass for the real package `workflows`.
    folders = {PurePosixPath(p).parent for p in tree.python_files("tests")}
    assert [str(f) for f in sorted(folders) if not (tree.ROOT / f / "__init__.py").exists()] == []


@pytest.mark.parametrize("package", tree.PACKAGES)
def test_every_module_that_does_something_has_a_mirrored_test(package: str) -> None:
    missing = [
        f"{source} -> {mirror(source)}"
        for source in tree.python_files(package)
        if is_tested_by_mirror(source) and not mirrors(source)
    ]
    assert missing == []


def test_every_mirrored_test_folder_has_its_source_folder() -> None:
    folders = {PurePosixPath(p).parent for p in tree.python_files("tests")}
    sources = [folder.relative_to("tests") for folder in folders if folder.parts[1:]]
    mirrored = [source for source in sources if source.parts[0] in tree.PACKAGES]
    assert [str(source) for source in mirrored if not (tree.ROOT / source).exists()] == []


def test_every_exception_from_the_mirror_is_still_needed() -> None:
    stale = [s for s in TESTED_ELSEWHERE if s not in tree.files(".py") or mirrors(s)]
    assert stale == []


def is_tested_by_mirror(source: str) -> bool:
    if source.endswith("/__init__.py") or source in TESTED_ELSEWHERE:
        return False
    return any(tree.has_body(function) and not is_stub(source, function) for function in tree.functions(source))


def is_stub(source: str, function: tree.FunctionNode) -> bool:
    """Tell whether a function is the stub of an activity's contract."""
    statements = [ast.unparse(statement) for statement in function.body if not tree.is_constant(statement)]
    return source.startswith(CONTRACTS) and statements == [STUB_BODY]


def mirror(source: str) -> PurePosixPath:
    path = PurePosixPath("tests", source)
    return path.with_name(f"test_{path.name}")


def mirrors(source: str) -> list[str]:
    """Return the mirrored test and its parts: test_spans_split.py goes with test_spans.py."""
    expected = mirror(source)
    part = f"{expected.with_suffix('')}_"
    return [t for t in tree.python_files("tests") if t == str(expected) or t.startswith(part)]
