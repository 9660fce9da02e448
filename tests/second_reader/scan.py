"""What a scan for record headers finds in a file, compared with the tables of the file (§ 4).

The page promises that piece lists and notes are enough to rebuild piece tables and digests. This
does so, beside the second reader and like it by the page alone, and names every difference.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from tests.second_reader.reader import (
    ALIGN,
    HEADER,
    NOTES_RECORD,
    PAGE_PIECES,
    UNIT_RECORD,
    ZERO_DIGEST,
    blake3,
    fields,
)

if TYPE_CHECKING:
    from tests.second_reader.reader import ChainFile

Digests = dict[tuple[bytes, int], bytes]  # disk tag and piece -> digest


def disk_tag(file: ChainFile, machine: str, key: str) -> bytes:
    return blake3(file.digest_key, f"HFTAG\0\0\0{machine}\0{key}".encode())[:8]


def scanned(file: ChainFile) -> Digests:
    """The digest of every piece that a unit or notes of the file speak of; superblock and tables are not used."""
    told = []
    for offset in range(2 * ALIGN, file.top.end, ALIGN):
        header = file.read(offset, 80)
        head = fields(HEADER, header)
        if head.magic != b"HFRECORD" or head.header_crc != zlib.crc32(header[:76]):
            continue
        if head.kind not in {UNIT_RECORD, NOTES_RECORD}:
            continue
        _, listed, body = file.record(offset, 80 + head.stored, head.kind)
        entries = list(struct.iter_unpack("<8sI16s", listed))
        if head.kind == NOTES_RECORD:
            notes = struct.iter_unpack("<8sII16s", body)
            entries = [(tag, piece + k, digest) for tag, piece, count, digest in notes for k in range(count)]
        told.append(((head.point, head.generation, head.number), entries))
    told.sort(key=lambda row: row[0])
    return {(tag, piece): digest for _, entries in told for tag, piece, digest in entries}


def tabled(file: ChainFile) -> Digests:
    """The digest of every piece in the piece tables of the file."""
    found: Digests = {}
    for machine, key, table in file.disks:
        tag = disk_tag(file, machine, key)
        for index in range(512 ** table[0]):
            if file.table_page(table, index) is None:
                continue
            for piece, place in enumerate(file.places(machine, key, index), index * PAGE_PIECES):
                if place >= 0:
                    found[tag, piece] = file.row(file.digests, place, 16)
    return found


def differences(file: ChainFile) -> list[str]:
    """One line for each piece on which scan and tables disagree; none in a good file."""
    by_scan = {name: digest for name, digest in scanned(file).items() if digest != ZERO_DIGEST}
    by_table = tabled(file)
    return [
        f"piece {piece} of disk {tag.hex()}: scan {by_scan.get((tag, piece))!r}, tables {by_table.get((tag, piece))!r}"
        for tag, piece in sorted(by_scan.keys() | by_table.keys())
        if by_scan.get((tag, piece)) != by_table.get((tag, piece))
    ]
