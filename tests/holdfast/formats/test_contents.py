"""The contents page: read as it was written, and by readers of any version that may read it."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from holdfast.errors import FileDamaged, FormatTooNew
from holdfast.formats.contents import (
    Contents,
    DiskSource,
    FileDisk,
    Notes,
    ParentPoint,
    Point,
    PointDisk,
    PointFile,
    PointMachine,
    RefText,
    Table,
    Units,
    decode_contents,
    encode_contents,
)
from holdfast.formats.pages import Ref
from holdfast.model.ids import DiskKey, MachineId
from holdfast.model.machine import Disk, Machine, PowerState

REF = Ref(offset=8192, length=300, digest=bytes(range(16)))
MOVED = DiskSource(place="[b] web.vmdk", moves=2, after=17)
CONTENTS = Contents(
    chain="0" * 31 + "a",
    file="1" * 31 + "b",
    kind="increment",
    unit_size=1 << 20,
    created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    parent=ParentPoint(file="2" * 32, point=6, root="3" * 64),
    holds=(7, 8),
    units=Units(count=4, table=Table.of(0, REF)),
    digests=Table.of(1, REF),
    notes=Notes(count=1, table=Table.of(0, REF)),
    disks=(FileDisk(machine="vm-1", key="d0", pieces=Table.of(2, REF)), FileDisk(machine="vm-1", key="d1")),
    points=(
        Point(
            number=7,
            id="4" * 32,
            session="s-1",
            machine=PointMachine(machine_id="vm-1", name="web", power=PowerState.ON, configuration={"cpus": "2"}),
            created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            consistency="application",
            complete=True,
            parent_root="3" * 64,
            root="5" * 64,
            snapshot="snap-1",
            disks=(
                PointDisk(disk=0, key="d0", size=1 << 30, change_id="c", map=Table.of(0, REF), root="6" * 64, done=9),
                PointDisk(disk=1, key="d1", size=512, detail="read whole", source=MOVED),
            ),
        ),
        Point(
            number=8,
            id="7" * 32,
            session="s-2",
            machine=PointMachine(machine_id="vm-1", name="web"),
            created=datetime(2026, 1, 3, tzinfo=UTC),
        ),
    ),
)
MINIMAL = {
    "format": 1,
    "chain": "a" * 32,
    "file": "b" * 32,
    "kind": "full",
    "unit_size": 1 << 20,
    "created": "2026-01-02T03:04:05Z",
    "holds": [1, 1],
}


def test_contents_come_back() -> None:
    assert decode_contents(encode_contents(CONTENTS)) == CONTENTS


def test_a_disk_of_any_size_says_how_much_was_read_and_where_it_begins() -> None:
    many = 3 * 64 << 40
    disk = PointDisk(disk=0, key="d0", size=64 << 40, read=many, transferred=many, resent=many, begun_at=many)
    point = msgspec.structs.replace(CONTENTS.points[0], disks=(disk,))
    contents = msgspec.structs.replace(CONTENTS, points=(point,))
    assert decode_contents(encode_contents(contents)) == contents


def test_tables_name_pages() -> None:
    table = Table.of(3, REF)
    assert table.depth == 3
    assert table.top is not None
    assert table.top.ref == REF
    assert Table.of(0, None) == Table()


def test_points_and_disks_are_found() -> None:
    assert CONTENTS.point(8) is CONTENTS.points[1]
    assert CONTENTS.point(9) is None
    assert CONTENTS.points[0].disk("d1") is CONTENTS.points[0].disks[1]
    assert CONTENTS.points[0].disk("d2") is None
    assert CONTENTS.disk_index("vm-1", "d1") == 1
    assert CONTENTS.disk_index("vm-2", "d1") is None
    assert CONTENTS.disk_index("vm-1", "d2") is None


def test_a_disk_says_how_often_it_was_begun_again() -> None:
    assert [disk.moves for disk in CONTENTS.points[0].disks] == [0, 2]


def test_where_disks_never_move_nothing_is_said_of_it() -> None:
    lines = msgspec.json.decode(encode_contents(CONTENTS))["points"][0]["disks"]
    assert "source" not in lines[0]
    assert lines[1]["source"] == {"place": "[b] web.vmdk", "moves": 2, "after": 17}


def test_the_captured_machine_is_the_one_the_provider_reported() -> None:
    assert CONTENTS.points[0].captured_machine() == Machine(
        machine_id=MachineId("vm-1"),
        name="web",
        power=PowerState.ON,
        disks=(Disk(key=DiskKey("d0"), size_bytes=1 << 30), Disk(key=DiskKey("d1"), size_bytes=512)),
        configuration={"cpus": "2"},
    )


def test_missing_optional_members_have_their_defaults() -> None:
    contents = decode_contents(msgspec.json.encode(MINIMAL))
    assert contents == Contents(
        chain="a" * 32,
        file="b" * 32,
        kind="full",
        unit_size=1 << 20,
        created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        holds=(1, 1),
    )
    assert (contents.units.count, contents.digests.top, contents.notes.count) == (0, None, 0)
    assert (contents.parent, contents.disks, contents.points) == (None, (), ())


@pytest.mark.parametrize("member", sorted(set(MINIMAL) - {"format"}))
def test_a_missing_member_that_is_not_optional_is_damage(member: str) -> None:
    rest = {name: value for name, value in MINIMAL.items() if name != member}
    with pytest.raises(FileDamaged, match=f"`{member}`"):
        decode_contents(msgspec.json.encode(rest))


def test_members_of_later_versions_are_ignored_everywhere() -> None:
    def with_additions(value: Any) -> Any:
        if isinstance(value, dict):
            changed = {name: with_additions(member) for name, member in value.items()}
            # Members of `configuration` are the provider's, so any name may stand there.
            return changed if "cpus" in changed else {"a_later": {"x": [1, None]}, **changed, "z_later": "words"}
        return [with_additions(member) for member in value] if isinstance(value, list) else value

    plain = msgspec.json.decode(encode_contents(CONTENTS))
    plain["points"][1]["machine"]["configuration"] = {"cpus": "4"}
    expected = decode_contents(msgspec.json.encode(plain))
    assert decode_contents(msgspec.json.encode(with_additions(plain))) == expected


@pytest.mark.parametrize("number", [2, 99])
def test_a_newer_format_is_refused_as_such(number: int) -> None:
    with pytest.raises(FormatTooNew, match=f"^contents page has format {number}, this version knows 1$"):
        decode_contents(msgspec.json.encode({**MINIMAL, "format": number}))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"chain": "\xff"}',
        b'{"x":' * 5000,
        b"[" * 100_000,
        encode_contents(CONTENTS)[:-1],
    ],
    ids=range(9),
)
def test_what_is_no_contents_page_is_damage(body: bytes) -> None:
    with pytest.raises(FileDamaged, match=r"^contents page cannot be read: "):
        decode_contents(body)


def changed(path: str, value: Any) -> bytes:
    """Return the sample with the member at ``path`` replaced."""
    whole = msgspec.json.decode(encode_contents(CONTENTS))
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    target = whole
    for part in parents:
        target = target[part]
    target[last] = value
    return msgspec.json.encode(whole)


@pytest.mark.parametrize(
    "path, value",
    [
        ("chain", "A" * 32),
        ("file", "0" * 31),
        ("file", "0" * 32 + "\n"),
        ("holds", [1]),
        ("holds", [-1, 1]),
        ("holds", [1, 0xFFFFFFFF]),
        ("created", "yesterday"),
        ("parent.root", ""),
        ("parent.file", "?"),
        ("units.count", -1),
        ("units.count", (1 << 32) + 1),
        ("units.table.depth", -1),
        ("units.table.depth", 9),
        ("notes.count", -1),
        ("digests.top.offset", -1),
        ("digests.top.offset", 1 << 63),
        ("digests.top.length", 1 << 32),
        ("digests.top.digest", "0" * 30),
        ("digests.top.digest", "z" * 32),
        ("disks.0.machine", 7),
        ("points.0.number", -1),
        ("points.0.number", 0xFFFFFFFF),
        ("points.0.number", 1 << 70),
        ("points.0.id", "4" * 31),
        ("points.0.root", "5" * 63),
        ("points.0.parent_root", "g" * 64),
        ("points.0.machine.power", "sleeping"),
        ("points.0.disks.0.disk", -1),
        ("points.0.disks.0.size", -512),
        ("points.0.disks.0.size", 513),
        ("points.0.disks.0.size", (64 << 40) + 512),
        ("points.0.disks.0.root", "x"),
        ("points.0.disks.0.done", -1),
    ],
)
def test_an_impossible_value_is_damage(path: str, value: Any) -> None:
    with pytest.raises(FileDamaged, match=r"^contents page cannot be read: "):
        decode_contents(changed(path, value))


def test_a_point_with_a_disk_that_the_file_does_not_list_is_damage() -> None:
    assert decode_contents(changed("points.0.disks.0.disk", 1)).points[0].disks[0].disk == 1
    with pytest.raises(FileDamaged, match=r"a disk that it does not list$"):
        decode_contents(changed("points.0.disks.0.disk", 2))


# ---------------------------------------------------------------------------------------------------- machine files


def with_files(*files: tuple[str, int]) -> bytes:
    """Return the page of a point that says to have these files."""
    page = msgspec.json.decode(encode_contents(CONTENTS))
    ref = {"offset": 8192, "length": 300, "digest": "ab" * 16}
    page["points"][0]["files"] = [{"name": name, "size": size, "ref": ref} for name, size in files]
    return msgspec.json.encode(page)


def test_a_point_without_machine_files_has_no_member_for_them() -> None:
    """So its page is, byte for byte, what it was before there were any."""
    assert b'"files"' not in encode_contents(CONTENTS)
    point = CONTENTS.points[0]
    assert point.machine_files == ()
    assert point.with_files([]) == point


def test_machine_files_are_read_as_they_were_written() -> None:
    contents = decode_contents(with_files(("web.vmx", 300), ("gölden 2.nvram", 0)))
    assert [(file.name, file.size) for file in contents.points[0].machine_files] == [
        ("web.vmx", 300),
        ("gölden 2.nvram", 0),
    ]
    assert decode_contents(encode_contents(contents)) == contents
    assert contents.points[0].file_facts[0] == ("web.vmx", 300, b"\xab" * 16)


@pytest.mark.parametrize("size, length, is_lost", [(300, 300, False), (0, 20, False), (300, 0, True)])
def test_a_machine_file_is_lost_when_its_page_has_no_bytes(size: int, length: int, is_lost: bool) -> None:
    file = PointFile(name="web.vmx", size=size, ref=RefText(8192, length, "ab" * 16))
    assert file.is_lost is is_lost


@pytest.mark.parametrize(
    "files",
    [
        [("", 1)],
        [(".", 1)],
        [("..", 1)],
        [("a/b", 1)],
        [("a\nb", 1)],
        [("a\0", 1)],
        [("a\x7f", 1)],
        [("ü" * 128, 1)],
        [("a", 1), ("a", 2)],
        [("a", -1)],
        [("a", (1 << 20) + 1)],
        [(f"f{number}", 1) for number in range(17)],
        [(f"f{number}", 1 << 20) for number in range(5)],
    ],
)
def test_machine_files_that_cannot_be_are_refused(files: list[tuple[str, int]]) -> None:
    with pytest.raises(FileDamaged):
        decode_contents(with_files(*files))


def test_machine_files_may_be_as_many_and_as_large_as_the_limits_say() -> None:
    names = [
        ("n" * 255, 1 << 20),
        *((f"f{number}", 1 << 20) for number in range(3)),
        *((f"e{n}", 0) for n in range(12)),
    ]
    assert len(decode_contents(with_files(*names)).points[0].machine_files) == 16
