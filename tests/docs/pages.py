"""The pages as their tests see them."""

import re

from tests.architecture import tree

CODE_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#+) +(.+?) *#*$", re.MULTILINE)
CODE_SPAN = re.compile(r"`([^`\n]+)`")
DATA = ("changes/", "tests/")


def pages() -> list[str]:
    """Return the pages people read: those of docs/, and those beside README.md."""
    return [page for page in tree.files(".md") if not page.startswith(DATA)]


def prose(page: str) -> str:
    """Return a page without its code blocks."""
    return CODE_BLOCK.sub("", tree.text(page))


def headings(page: str) -> list[tuple[int, str]]:
    """Return level and words of every heading."""
    return [(len(marks), words) for marks, words in HEADING.findall(prose(page))]


def anchors(page: str) -> set[str]:
    """Return the fragments a link may name."""
    return {anchor(words) for _, words in headings(page)}


def anchor(words: str) -> str:
    """Return the fragment of a heading, as web pages of repositories make it."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", words).lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of one language, without the indentation they stand at."""
    found = []
    for indent, name, text in CODE_BLOCK.findall(tree.text(page)):
        if name == language:
            found.append("\n".join(line.removeprefix(indent) for line in text.splitlines()) + "\n")
    return found


def rows(page: str, first_cell: str) -> list[list[str]]:
    """Return the cells of each row of every table whose header begins with ``first_cell``."""
    found: list[list[str]] = []
    is_inside = False
    for line in prose(page).splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            is_inside = False
        elif cells[0] == first_cell:
            is_inside = True
        elif is_inside and set(line) - set("|-: "):
            found.append(cells)
    return found


def names_in(text: str) -> list[str]:
    """Return what stands in code spans."""
    return CODE_SPAN.findall(text)
