"""Pages tell the truth of today: what they say of the code is looked up in the code."""

import importlib
import itertools
import re
import tomllib
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from scripts import draw_overview
from tests.architecture import tree
from tests.docs import pages

README_LINES_MAX = 120
BADGES_MAX = 3
RECORD = re.compile(r"docs/decisions/(\d{4})-[a-z0-9-]+\.md")
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
SIZES = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
TIMES = {"s": 1, "min": 60, "h": 3600}


@pytest.mark.parametrize("page", pages.pages())
def test_a_page_has_one_title_on_its_first_line(page: str) -> None:
    titles = [words for level, words in pages.headings(page) if level == 1]
    assert len(titles) == 1
    assert tree.text(page).startswith("# ")


@pytest.mark.parametrize("page", pages.pages())
def test_no_level_of_headings_is_left_out(page: str) -> None:
    levels = [level for level, _ in pages.headings(page)]
    assert [pair for pair in itertools.pairwise(levels) if pair[1] > pair[0] + 1] == []


@pytest.mark.parametrize("page", pages.pages())
def test_every_link_into_a_page_names_one_of_its_headings(page: str) -> None:
    wrong = []
    for _, target in LINK.findall(pages.CODE_SPAN.sub("", pages.prose(page))):
        path, _, fragment = target.partition("#")
        if fragment and "://" not in target:
            other = page if not path else resolved(page, path)
            wrong += [] if fragment in pages.anchors(other) else [target]
    assert wrong == []


def test_every_page_can_be_reached_from_the_first_one() -> None:
    seen, new = {"docs/index.md"}, ["docs/index.md"]
    while new:
        page = new.pop()
        for _, target in LINK.findall(pages.CODE_SPAN.sub("", pages.prose(page))):
            other = resolved(page, target.split("#")[0])
            if other.endswith(".md") and other not in seen and (tree.ROOT / other).exists():
                seen.add(other)
                new.append(other)
    assert [page for page in pages.pages() if page.startswith("docs/") and page not in seen] == []


def test_the_readme_is_short_and_plain() -> None:
    lines = tree.text("README.md").splitlines()
    assert len(lines) < README_LINES_MAX
    assert len([line for line in lines if "badge" in line.lower()]) <= BADGES_MAX
    assert [line for line in lines if any(ord(character) > 0x2FFF for character in line)] == []


@pytest.mark.parametrize("page", pages.pages())
def test_every_test_that_is_named_as_a_proof_is_there(page: str) -> None:
    missing = []
    for words, target in LINK.findall(pages.prose(page)):
        for name in re.findall(r"\btest_\w+(?=`)", words):
            source = tree.text(resolved(page, target))
            missing += [] if re.search(rf"^(async )?def {name}\(", source, re.MULTILINE) else [name]
    assert missing == []


def test_every_word_of_the_glossary_has_its_name_in_the_code() -> None:
    named = [pages.names_in(cells[1]) for cells in pages.rows("docs/concepts.md", "Word") if "." in cells[1]]
    names = [name for group in named for name in group if name.startswith(tree.PACKAGES)]
    assert names
    assert [name for name in names if not is_there(name)] == []


@pytest.mark.parametrize("cells", pages.rows("docs/limits.md", "What"), ids=lambda cells: cells[0])
def test_every_limit_is_the_one_of_the_code(cells: list[str]) -> None:
    [name] = pages.names_in(cells[2])
    number, _, unit = cells[1].partition(" ")
    assert int(number) * SIZES.get(unit, 1) == value_of(name) * (SIZES["KiB"] if name.endswith("_kib") else 1)


@pytest.mark.parametrize("cells", pages.rows("docs/limits.md", "Patience"), ids=lambda cells: cells[0])
def test_every_patience_is_the_one_of_the_code(cells: list[str]) -> None:
    [name] = pages.names_in(cells[2])
    number, _, unit = cells[1].partition(" ")
    value = value_of(name)
    assert int(number) * TIMES[unit] == (value.total_seconds() if isinstance(value, timedelta) else value)


def test_the_architecture_lists_the_import_contracts() -> None:
    settings = tomllib.loads(tree.text("pyproject.toml"))
    contracts = [contract["name"] for contract in settings["tool"]["importlinter"]["contracts"]]
    assert re.findall(r"^\d+\. .+$", tree.text("docs/architecture.md"), re.MULTILINE) == contracts


def test_every_file_that_a_page_names_is_there() -> None:
    missing = [
        f"{page}: {name}"
        for page in pages.pages()
        for name in pages.names_in(pages.prose(page))
        if re.fullmatch(rf"({'|'.join(tree.PACKAGES)}|scripts|docs)/[\w/.-]+\.\w+", name)
        and not (tree.ROOT / name).exists()
    ]
    assert missing == []


def test_every_decision_is_listed_and_numbered_once() -> None:
    numbers = [match[1] for page in pages.pages() if (match := RECORD.fullmatch(page))]
    listed = re.findall(r"\]\((\d{4})-", tree.text("docs/decisions/index.md"))
    assert sorted(numbers) == sorted(set(numbers)) == sorted(listed)


@pytest.mark.parametrize("theme", draw_overview.THEMES, ids=lambda theme: theme.name)
def test_the_picture_is_what_its_script_draws(theme: draw_overview.Theme) -> None:
    committed = draw_overview.FOLDER / draw_overview.file_name(theme)
    assert committed.read_text("utf-8") == draw_overview.picture(theme)


def resolved(page: str, target: str) -> str:
    """Return the path in the tree that a relative link of a page leads to."""
    path = Path(tree.ROOT / PurePosixPath(page).parent / target).resolve()
    return path.relative_to(tree.ROOT).as_posix() if path.is_relative_to(tree.ROOT) else target


def is_there(name: str) -> bool:
    """Tell whether a dotted name is a module, or a member of one however deep."""
    try:
        value_of(name)
    except (ImportError, AttributeError):
        return False
    return True


def value_of(name: str) -> Any:
    """Return what a dotted name stands for."""
    words = name.split(".")
    for length in range(len(words), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(words[:length]))
        except ModuleNotFoundError:
            continue
        for word in words[length:]:
            found = getattr(found, word)
        return found
    raise ImportError(name)
