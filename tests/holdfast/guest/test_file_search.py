"""A search takes what masks mean, goes no further than it has to, and ends whatever the folders look like."""

from collections.abc import Iterator

import pytest
from typing_extensions import override

from holdfast.guest import file_search
from holdfast.guest.file_search import FileSearch, FoundFiles
from holdfast.guest.file_tree import Entry, Kind
from holdfast.guest.masks import parse_masks
from holdfast.guest.window import Disk, Implausible, Window
from holdfast.model.spans import Span
from tests.holdfast.guest.drives import window

PAGE = 4096


class Names:
    """A tree of names; each file has one page, by its node."""

    root = 0

    def __init__(self, *paths: str, is_caseless: bool = False) -> None:
        self.is_caseless = is_caseless
        self.looked: list[int] = []
        self.nodes = {"": 0}
        self.folders: dict[int, dict[str, Entry]] = {0: {}}
        for path in paths:
            self._add(path)

    def _add(self, path: str) -> int:
        if path in self.nodes:
            return self.nodes[path]
        top, _, name = path.rstrip("/").rpartition("/")
        folder = self._add(f"{top}/" if top else "")
        node = self.nodes[path] = len(self.nodes)
        kind = Kind.FOLDER if path.endswith("/") else Kind.FILE
        self.folders[folder][name] = Entry(name, node, kind)
        if kind is Kind.FOLDER:
            self.folders[node] = {}
        return node

    def entries(self, folder: int) -> Iterator[Entry]:
        self.looked.append(folder)
        yield from self.folders[folder].values()

    def content(self, entry: Entry, *, is_gapless: bool = False) -> list[Span]:
        return [Span(entry.node * PAGE, PAGE)]


TREE = (
    "pagefile.sys",
    "var/tmp/a",
    "var/tmp/deep/b",
    "var/log/c.iso",
    "home/ann/d.iso",
    "home/ann/tmp/e",
    "home/bob/tmp/f",
    "Temp/g",
)


def search(tree: Names, *masks: str) -> FoundFiles:
    return FileSearch(tree, window(bytes(100 * PAGE)), parse_masks(masks)).run()


def names_of(tree: Names, found: FoundFiles) -> set[str]:
    pages = {at // PAGE for span in found.spans for at in range(span.start, span.end, PAGE)}
    return {path for path, node in tree.nodes.items() if node in pages}


@pytest.mark.parametrize(
    "mask, names",
    [
        ("/var/tmp/*", {"var/tmp/a", "var/tmp/deep/b"}),
        ("/var/tmp", {"var/tmp/a", "var/tmp/deep/b"}),
        ("*.iso", {"var/log/c.iso", "home/ann/d.iso"}),
        ("/home/*/tmp", {"home/ann/tmp/e", "home/bob/tmp/f"}),
        ("C:\\pagefile.sys", {"pagefile.sys"}),
        ("/home/?nn/d.*", {"home/ann/d.iso"}),
        ("Temp", {"Temp/g"}),
        ("tmp", set()),
        ("t?p", {"var/tmp/a", "var/tmp/deep/b", "home/ann/tmp/e", "home/bob/tmp/f"}),
    ],
)
def test_a_mask_takes_what_it_means(mask: str, names: set[str]) -> None:
    tree = Names(*TREE)
    found = search(tree, mask)
    assert names_of(tree, found) == names
    assert found.matched == (frozenset((0,)) if names else frozenset())
    assert found.reason == ""


def test_masks_are_told_apart() -> None:
    found = search(Names(*TREE), "/none", "*.iso", "/var/none/*", "Temp")
    assert found.matched == {1, 3}


def test_case_matters_where_the_volume_says_so() -> None:
    assert search(Names(*TREE), "/PAGEFILE.SYS").spans == ()
    assert search(Names(*TREE, is_caseless=True), "/PAGEFILE.SYS", "*.ISO").matched == {0, 1}


def test_only_folders_that_may_hold_something_are_looked_into() -> None:
    tree = Names(*TREE)
    search(tree, "/var/tmp/*", "/pagefile.sys")
    assert {path for path, node in tree.nodes.items() if node in tree.looked} == {
        "",
        "var/",
        "var/tmp/",
        "var/tmp/deep/",
    }


def test_a_folder_that_holds_itself_ends() -> None:
    tree = Names(*TREE)
    tree.folders[tree.nodes["var/tmp/"]]["loop"] = Entry("loop", tree.nodes["var/"], Kind.FOLDER)
    tree.folders[tree.nodes["home/ann/"]]["up"] = Entry("up", 0, Kind.FOLDER)
    assert search(tree, "*.iso").matched == {0}


def test_a_deep_tree_ends() -> None:
    tree = Names("d/" * 600 + "x.iso")
    assert names_of(tree, FileSearch(tree, window(bytes(700 * PAGE)), parse_masks(["*.iso"])).run()) == {
        "d/" * 600 + "x.iso"
    }


@pytest.mark.parametrize("bound, value", [("NAMES_MAX", 9), ("FILES_MAX", 1), ("FOLDERS_MAX", 4)])
def test_a_search_that_would_cost_too_much_keeps_what_it_found(
    monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    monkeypatch.setattr(file_search, bound, value)
    found = search(Names(*TREE), "pagefile.sys", "*.iso")
    assert "more folders and files than are looked at" in found.reason
    assert found.spans


def test_damage_ends_a_search() -> None:
    class Damaged(Names):
        @override
        def entries(self, folder: int) -> Iterator[Entry]:
            yield from super().entries(folder)
            raise Implausible("a folder is damaged")

    with pytest.raises(Implausible):
        search(Damaged(*TREE), "*.iso")


def test_a_walk_without_time_keeps_what_it_found_and_says_so() -> None:
    tree = Names(*(f"f{number}.iso" for number in range(600)))
    answers = iter([True])
    disk = Disk(lambda offset, length: bytes(length), 700 * PAGE, lambda: next(answers, False))
    found = FileSearch(tree, Window(disk, (Span(0, 700 * PAGE),)), parse_masks(["*.iso"])).run()
    assert found.reason == "the time for looking the disk over was up, so not all that masks mean was found"
    assert sum(span.length for span in found.spans) == 511 * PAGE
