"""Every error has a code of its own, and the reference page lists exactly these codes."""

import re
from collections import Counter
from collections.abc import Iterator

from holdfast.errors import HoldfastError
from tests.architecture import tree

REFERENCE = "docs/reference/errors.md"
CODE_IN_TABLE = re.compile(r"^\|\s*`([a-z][a-z0-9-]*)`", re.MULTILINE)


def test_codes_are_unique() -> None:
    counts = Counter(error.code for error in tree_of_errors(HoldfastError))
    assert [code for code, count in counts.items() if count > 1] == []


def test_every_error_states_its_own_code() -> None:
    # An inherited code would hide which of two things happened.
    silent = [e.__name__ for e in tree_of_errors(HoldfastError) if "code" not in vars(e)]
    assert silent == []


def test_hints_are_sentences() -> None:
    hints = [error.default_hint for error in tree_of_errors(HoldfastError)]
    assert [hint for hint in hints if not hint.endswith(".")] == []


def test_the_reference_lists_exactly_the_codes_of_the_tree() -> None:
    codes = sorted(error.code for error in tree_of_errors(HoldfastError))
    pages = [page for page in tree.files(".md") if page == REFERENCE]
    wrong = [page for page in pages if sorted(CODE_IN_TABLE.findall(tree.text(page))) != codes]
    assert wrong == []


def tree_of_errors(root: type[HoldfastError]) -> Iterator[type[HoldfastError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__ == root.__module__:
            yield from tree_of_errors(child)
