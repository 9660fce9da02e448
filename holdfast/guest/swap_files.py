"""Swap files of Linux: looked for under the names that installers and manuals give them, and known by their content.

A file counts as swap space when it begins with the header of one that fits its length. Its first page is kept, and so
is all of it when the machine may sleep in it, when it has gaps or a second name, or when it shares blocks.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from holdfast.guest import swap
from holdfast.guest.file_tree import Entry, FileTree, Kind
from holdfast.guest.volume import VolumeState
from holdfast.guest.window import Window
from holdfast.model.spans import Span

NAMES: Final = ("swapfile", "swap.img", "swap", "swap/swapfile", "swap/swap.img", "var/swapfile", "var/swap")


class SwapFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The swap files of a volume."""

    spans: tuple[Span, ...]
    """Spans of the disk that hold their pages."""
    is_asleep: bool
    """Whether one of them may hold the memory of a machine that sleeps."""


def swap_files(tree: FileTree, volume: Window) -> SwapFiles:
    """Return the swap files of a volume. Raises `Implausible`."""
    found: list[Span] = []
    is_asleep = False
    for entry in _files(tree):
        spans = tree.content(entry, is_gapless=True)
        if not spans:
            continue
        file = volume.inside(spans)
        state, _, unneeded = swap.unneeded(file)
        is_asleep = is_asleep or state is VolumeState.UNCLEAN
        found += [] if unneeded is None else file.places(unneeded)
    return SwapFiles(spans=tuple(found), is_asleep=is_asleep)


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
