"""Swap files of Linux: looked for under the names that installers and manuals give them, and known by their content.

A file counts as swap space when it begins with the header of one that fits its length. Its first page is kept, and so
is all of it when the machine may sleep in it, when it has gaps or a second name, or when it shares blocks.
"""

from collections.abc import Iterator
from typing import Final

from holdfast.guest import swap
from holdfast.guest.file_tree import Entry, FileTree, Kind
from holdfast.guest.window import Window
from holdfast.model.spans import Span

NAMES: Final = ("swapfile", "swap.img", "swap", "swap/swapfile", "swap/swap.img", "var/swapfile", "var/swap")


def swap_spans(tree: FileTree, volume: Window) -> Iterator[Span]:
    """Yield the spans of the disk that hold swap files of a volume. Raises `Implausible`."""
    for entry in _files(tree):
        spans = tree.content(entry, is_gapless=True)
        if not spans:
            continue
        file = volume.inside(spans)
        _, _, unneeded = swap.unneeded(file)
        if unneeded is not None:
            yield from file.places(unneeded)


def _files(tree: FileTree) -> Iterator[Entry]:
    """Yield the files that are called as swap files are, each once."""
    top = _named(tree, tree.root, {name.partition("/")[0] for name in NAMES})
    for name, entry in top.items():
        if entry.kind is Kind.FILE and name in NAMES:
            yield entry
        if entry.kind is Kind.FOLDER:
            inner = {path.partition("/")[2] for path in NAMES if path.startswith(f"{name}/")}
            yield from (found for found in _named(tree, entry.node, inner).values() if found.kind is Kind.FILE)


def _named(tree: FileTree, folder: int, names: set[str]) -> dict[str, Entry]:
    return {entry.name: entry for entry in tree.entries(folder) if entry.name in names}
