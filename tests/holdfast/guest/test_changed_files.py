"""Files are found by where bytes changed: on real file systems, and within bounds."""

import random
from pathlib import Path

import pytest

from holdfast.guest import changed_files as module
from holdfast.guest.changed_files import SpanIndex, changed_files
from holdfast.guest.file_tree import Entry, Kind
from holdfast.model.difference import VolumeChanges
from holdfast.model.spans import Span
from holdfast.testing.images import FileSystem, make_image, write_files
from tests.holdfast.guest.drives import reader, swap_content, window
from tests.holdfast.guest.test_file_search import PAGE, Names

PIECE = 64 << 10
MIB = 1 << 20
SIZES = {FileSystem.EXT4: 32 * MIB, FileSystem.XFS: 320 * MIB, FileSystem.NTFS: 32 * MIB}
RNG = random.Random(7)


def index_of(*spans: Span) -> SpanIndex:
    index = SpanIndex()
    for span in spans:
        index.add(span)
    return index


def differing(old: bytes, new: bytes) -> SpanIndex:
    found = SpanIndex()
    for at in range(0, len(new), PIECE):
        if old[at : at + PIECE] != new[at : at + PIECE]:
            found.add(Span(at, min(PIECE, len(new) - at)))
    return found


def look(source: Path | bytes, changed: SpanIndex, named: int = 100) -> list[VolumeChanges]:
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    return changed_files(reader(source), size, changed, named)


@pytest.mark.parametrize("kind", SIZES)
def test_files_that_were_written_are_found_and_others_are_not(tmp_path: Path, kind: FileSystem) -> None:
    path = tmp_path / "image"
    name = "log.1.bin" if kind is FileSystem.NTFS else "folder/log.1.bin"  # folders of ntfs take a mount to be made
    tree = {"kept.bin": RNG.randbytes(300_000), name: RNG.randbytes(400_000)}
    make_image(path, kind, SIZES[kind], tree)
    before = path.read_bytes()
    at = before.index(tree[name][200_000:200_200]) // PIECE * PIECE
    volume = look(path, index_of(Span(at, PIECE)))[0]
    assert [file.path for file in volume.files] == [f"/{name}"]
    assert 0 < volume.files[0].changed_bytes <= PIECE
    assert (volume.kind, volume.reason) == (str(kind)[:3] if kind is FileSystem.EXT4 else str(kind), "")


def test_a_new_file_is_found_at_the_newer_point_alone(tmp_path: Path) -> None:
    path = tmp_path / "image"
    make_image(path, FileSystem.EXT4, SIZES[FileSystem.EXT4], {"old": RNG.randbytes(200_000)})
    before = path.read_bytes()
    write_files(path, FileSystem.EXT4, {"new": RNG.randbytes(500_000)})
    changed = differing(before, path.read_bytes())
    newer, older = look(path, changed)[0], look(before, changed)[0]
    assert newer.files[0].path == "/new"
    assert newer.files_bytes >= 500_000 - PIECE
    assert newer.changed_bytes > newer.files_bytes
    assert "/new" not in {file.path for file in older.files}


def test_volumes_without_files_say_why() -> None:
    swap = swap_content(MIB)
    assert look(swap, index_of(Span(0, PIECE)))[0].reason == "swap space has no files"
    nothing = look(bytes(MIB), index_of(Span(0, PIECE)))[0]
    assert (nothing.place, nothing.kind, nothing.changed_bytes) == ("the whole disk", "", PIECE)
    assert nothing.reason == "it bears the marks of nothing known"


def test_a_volume_without_changes_is_not_looked_into() -> None:
    assert look(bytes(MIB), SpanIndex()) == []


def test_a_damaged_volume_says_so(tmp_path: Path) -> None:
    data = bytearray(MIB)
    data[1024 + 56 : 1024 + 58] = b"\x53\xef"
    assert look(bytes(data), index_of(Span(0, PIECE)))[0].reason
    both = bytearray(swap_content(MIB))
    both[1024 + 56 : 1024 + 58] = b"\x53\xef"
    assert "marks of" in look(bytes(both), index_of(Span(0, PIECE)))[0].reason


# -- bounds and sums ---------------------------------------------------------------------------------------------------


def test_the_overlap_with_spans_is_counted_to_the_byte() -> None:
    rng = random.Random(11)
    for _ in range(50):
        edges = sorted(rng.sample(range(200), 2 * rng.randrange(1, 10)))
        spans = [Span(start, end - start) for start, end in zip(edges[::2], edges[1::2], strict=True)]
        held = {byte for span in spans for byte in range(span.start, span.end)}
        index = index_of(*spans)
        start = rng.randrange(200)
        wanted = Span(start, rng.randrange(0, 200 - start))
        assert index.overlap(wanted) == len(held.intersection(range(wanted.start, wanted.end)))


def test_more_spans_than_fit_are_known_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SPANS_MAX", 2)
    index = index_of(Span(0, 1), Span(2, 1))
    assert index.is_whole
    index.add(Span(4, 1))
    assert not index.is_whole


def visit(tree: Names, changed: SpanIndex, named: int = 10) -> tuple[str, module._Tally]:
    tally = module._Tally(named)
    volume = window(bytes(PAGE * 64))
    return module._Visit(tree, volume, changed, tally).run(), tally


def test_the_files_with_the_most_changes_are_named_and_the_others_counted() -> None:
    tree = Names("a", "b/", "b/c", "d")
    spans = index_of(*(Span(tree.nodes[name] * PAGE, length) for name, length in (("a", 10), ("b/c", 30), ("d", 20))))
    reason, tally = visit(tree, spans, 2)
    assert reason == ""
    assert [(file.path, file.changed_bytes) for file in tally.largest()] == [("/b/c", 30), ("/d", 20)]
    assert (tally.count, tally.bytes) == (3, 60)
    assert list(visit(tree, spans, 0)[1].largest()) == []


@pytest.mark.parametrize("name, most", [("NAMES_MAX", 3), ("FOLDERS_MAX", 2)])
def test_a_visit_ends_at_its_bounds_and_says_so(monkeypatch: pytest.MonkeyPatch, name: str, most: int) -> None:
    monkeypatch.setattr(module, name, most)
    reason, _ = visit(Names(*(f"{number}/" for number in range(9)), "file"), SpanIndex())
    assert reason.startswith("it has more folders and files")


def test_a_folder_that_holds_itself_is_visited_once() -> None:
    tree = Names("a/", "a/b")
    tree.folders[tree.nodes["a/"]]["again"] = Entry("again", 0, Kind.FOLDER)
    visit(tree, SpanIndex())
    assert len(tree.looked) == 2


def test_a_name_that_is_no_text_is_shown_nevertheless() -> None:
    tree = Names("a")
    tree.folders[0]["a"] = Entry(b"\xff\xfe".decode("utf-8", "surrogateescape"), 1, Kind.FILE)
    _, tally = visit(tree, index_of(Span(PAGE, 5)))
    assert [file.path for file in tally.largest()] == ["/??"]


def test_other_things_than_files_and_folders_are_passed_over() -> None:
    tree = Names("a")
    tree.folders[0]["a"] = Entry("a", 1, Kind.OTHER)
    assert visit(tree, index_of(Span(PAGE, 5)))[1].count == 0
