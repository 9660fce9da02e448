"""Pages stay true: no line numbers, no dead links, notes of changes in one form."""

import re
from pathlib import PurePosixPath

from tests.architecture import tree

LINE_REFERENCE = re.compile(r"\b[\w/-]+\.(?:py|go|sh|toml|md):\d+|#L\d+\b|\blines? \d+\b")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
CODE_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE_SPAN = re.compile(r"`[^`\n]*`")

CHANGE_KINDS = ("added", "changed", "fixed", "removed", "security")
CHANGE_NAME = re.compile(rf"[a-z0-9-]+\.({'|'.join(CHANGE_KINDS)})\.md")


def test_no_page_refers_to_a_line_number() -> None:
    found = [
        f"{page}: {match.group()}"
        for page in tree.files(".md")
        for match in LINE_REFERENCE.finditer(CODE_BLOCK.sub("", tree.text(page)))
    ]
    assert found == []


def test_every_relative_link_leads_to_a_file() -> None:
    dead = [
        f"{page}: {target}"
        for page in tree.files(".md")
        for target in relative_targets(page)
        if not (tree.ROOT / PurePosixPath(page).parent / target).exists()
    ]
    assert dead == []


def test_every_change_note_has_a_kind_and_one_sentence_per_line() -> None:
    notes = [p for p in tree.files(".md") if p.startswith("changes/") and "TEMPLATE" not in p]
    assert [n for n in notes if not CHANGE_NAME.fullmatch(PurePosixPath(n).name)] == []
    lines = [line for note in notes for line in tree.text(note).splitlines()]
    assert [line for line in lines if not line.endswith(".")] == []


def test_the_changelog_has_a_place_for_unreleased_changes() -> None:
    assert "## Unreleased" in tree.text("CHANGELOG.md").splitlines()


def relative_targets(page: str) -> list[str]:
    prose = CODE_SPAN.sub("", CODE_BLOCK.sub("", tree.text(page)))
    targets = [first or second for first, second in LINK.findall(prose)]
    paths = [target.split("#")[0] for target in targets]
    return [path for path in paths if path and "://" not in path and not path.startswith("mailto:")]
