"""Records of NTFS are decoded, and what is damaged in them is refused."""

import struct

import pytest

from holdfast.guest.ntfs_records import (
    DATA,
    Boot,
    decode_entries,
    decode_list,
    decode_record,
    decode_runs,
    file_name,
    with_fixups,
)
from holdfast.guest.window import Implausible


def boot(**changes: int) -> bytes:
    fields = {"sector": 512, "per_cluster": 8, "sectors": 80_000, "mft": 4, "record": -10, "index": -12} | changes
    raw = bytearray(512)
    struct.pack_into("<HB", raw, 11, fields["sector"], fields["per_cluster"])
    struct.pack_into("<QQ", raw, 40, fields["sectors"], fields["mft"])
    struct.pack_into("<b3xb", raw, 64, fields["record"], fields["index"])
    raw[510:] = b"\x55\xaa"
    return bytes(raw)


def record(*attributes: bytes, flags: int = 1, base: int = 0) -> bytes:
    body = b"".join(attributes) + b"\xff\xff\xff\xff"
    head = struct.pack("<4sHHQHHHHIIQ", b"FILE", 48, 3, 0, 7, 1, 56, flags, 56 + len(body), 1024, base)
    raw = bytearray((head.ljust(56, b"\0") + body).ljust(1024, b"\0"))
    raw[48:50] = b"\xab\xcd"
    raw[50:54] = raw[510:512] + raw[1022:1024]
    raw[510:512] = raw[1022:1024] = b"\xab\xcd"
    return bytes(raw)


def resident(value: bytes, kind: int = DATA) -> bytes:
    body = struct.pack("<IIBBHHHIHH", kind, (24 + len(value) + 7) // 8 * 8, 0, 0, 24, 0, 0, len(value), 24, 0) + value
    return body.ljust(-(-len(body) // 8) * 8, b"\0")


def elsewhere(runs: bytes, clusters: int) -> bytes:
    head = struct.pack("<IIBBHHHQQHH4xQQQ", DATA, 80, 1, 0, 64, 0, 0, 0, clusters - 1, 64, 0, 9, 8, 8)
    return (head + runs).ljust(80, b"\0")


def test_a_boot_sector_tells_the_measures() -> None:
    assert Boot.decode(boot()) == Boot(4096, 10_000, 4, 1024, 4096)
    assert Boot.decode(boot(per_cluster=0xF7, sectors=1 << 30)).cluster == 512 << 9


@pytest.mark.parametrize(
    "change", [{"sector": 7}, {"per_cluster": 3}, {"per_cluster": 0xE0}, {"mft": 0}, {"mft": 10_000}, {"record": -20}]
)
def test_measures_that_cannot_be_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(Implausible):
        Boot.decode(boot(**change))


def test_a_record_tells_its_attributes() -> None:
    found = decode_record(record(resident(b"x" * 600), elsewhere(b"\x21\x05\x00\x10\x11\x03\xff\x01\x02\0", 10)))
    assert (found.sequence, found.base) == (7, 0)
    first, second = found.attributes
    assert first.value == b"x" * 600, "the ends of sectors are put back"
    assert (second.runs, second.size, second.is_plain) == (((0x1000, 5), (0xFFF, 3), (None, 2)), 8, True)
    assert list(found.find(DATA)) == [first, second]


@pytest.mark.parametrize(
    "data",
    [
        b"BAAD" + record()[4:],
        record(flags=0),
        record()[:510] + b"\0\0" + record()[512:],
        record(resident(b"x")[:4] + b"\xff\0\0\0" + resident(b"x")[8:])[:1024],
        record(resident(b"x").replace(struct.pack("<IH", 1, 24), struct.pack("<IH", 900, 24))),
        record(elsewhere(b"\x11\x05\x07\0", 6)),
        record(struct.pack("<IIBBHHHQQ", DATA, 40, 1, 0, 0, 0, 0, 0, 1)),
        record()[:4] + b"\x00\x03\xff\xff" + record()[8:],
    ],
)
def test_damaged_records_are_refused(data: bytes) -> None:
    with pytest.raises(Implausible):
        decode_record(data)


@pytest.mark.parametrize("runs", [b"\x01\x00", b"\x11\x05\xff", b"\x19\x05", b"\x91\1", b"\x10", b"\x11\x05"])
def test_damaged_runs_are_refused(runs: bytes) -> None:
    with pytest.raises(Implausible):
        list(decode_runs(runs))


def test_an_attribute_list_names_where_parts_are() -> None:
    name = "$I30".encode("utf-16-le")
    entries = struct.pack("<IHBBQQH", 0xA0, 40, 4, 26, 5, 77 | 3 << 48, 1) + name
    entries = entries.ljust(40, b"\0") + struct.pack("<IHBBQQH", DATA, 32, 0, 26, 0, 6, 1).ljust(32, b"\0")
    assert list(decode_list(entries)) == [(0xA0, "$I30", 5, 77), (DATA, "", 0, 6)]
    with pytest.raises(Implausible):
        list(decode_list(struct.pack("<IHBBQQH", DATA, 0, 0, 26, 0, 6, 1)))


def test_an_index_names_files() -> None:
    name = (5).to_bytes(8, "little") + bytes(56) + b"\2\0" + "ab".encode("utf-16-le")
    entry = struct.pack("<QHHHH", 40 | 9 << 48, 16 + len(name), len(name), 0, 0) + name
    last = struct.pack("<QHHHH", 0, 16, 0, 2, 0)
    head = struct.pack("<IIII", 16, 16 + len(entry) + 16, 0, 0)
    assert list(decode_entries(head + entry + last)) == [(40, 9, "ab")]
    assert file_name(name) == (5, "ab")
    with pytest.raises(Implausible):
        list(decode_entries(head + entry[:8] + b"\0\0" + entry[10:] + last))
    with pytest.raises(Implausible):
        file_name(name[:60])


def test_fixups_of_another_length_are_refused() -> None:
    with pytest.raises(Implausible, match="fixups"):
        with_fixups(record()[:512], b"FILE")
