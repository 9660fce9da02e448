"""A format page taken apart: its sections, tables, hexadecimal lines and JSON."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHAIN_PAGE = ROOT / "docs" / "formats" / "chain-file.md"
METADATA_PAGE = ROOT / "docs" / "formats" / "chain-metadata.md"
MOVER_PAGE = ROOT / "docs" / "formats" / "mover-protocol.md"

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_HEX_LINE = re.compile(r"([0-9a-f]{6})  ((?:[0-9a-f]{2} ?)+)")

Row = dict[str, str]


def section(page: Path, heading: str) -> str:
    """Return what stands between a heading, which is given without its number, and the next of its level or above."""
    text = page.read_text()
    found = re.search(rf"^(#+) (?:\d+\. )?{re.escape(heading)}\n", text, re.MULTILINE)
    assert found, f"{page.name} has no section {heading}"
    rest = text[found.end() :]
    following = re.search(rf"^#{{1,{len(found[1])}}} ", _without_blocks(rest), re.MULTILINE)
    return rest if following is None else rest[: following.start()]


def _without_blocks(text: str) -> str:
    """Return the text with code blocks blanked, so that offsets stay."""
    return _BLOCK.sub(lambda block: re.sub(r"[^\n]", " ", block[0]), text)


def tables(text: str) -> list[list[Row]]:
    """Return the tables of a text, each as rows by the names of their columns."""
    found: list[list[Row]] = []
    lines = [*text.splitlines(), ""]
    while lines:
        block = []
        while lines[0].startswith("|"):
            block.append([cell.strip() for cell in lines.pop(0).strip("|").split("|")])
        lines.pop(0)
        if block:
            names, _, *rows = block
            found.append([dict(zip(names, row, strict=True)) for row in rows])
    return found


def quoted(text: str) -> list[str]:
    """Return the words between backticks."""
    return re.findall(r"`([^`]+)`", text)


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of a language."""
    return [body for name, body in _BLOCK.findall(text) if name == language]


def shown_bytes(text: str) -> dict[int, bytes]:
    """Return what the hexadecimal lines of a text say, by offset."""
    shown: dict[int, bytes] = {}
    for block in blocks(text, "hex"):
        for line in block.splitlines():
            matched = _HEX_LINE.fullmatch(line)
            assert matched, f"{line!r} is no hexadecimal line"
            shown[int(matched[1], 16)] = bytes.fromhex(matched[2])
    return shown


def evaluated(cell: str, names: dict[str, int]) -> int:
    """Return the value of a sum of numbers and names, such as ``144 + length``."""
    return sum(int(part) if part.isdigit() else names[part] for part in cell.split(" + "))
