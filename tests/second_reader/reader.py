"""A second reader of chain files, written from docs/formats/chain-file.md alone.

It shares nothing with the product. Numbers in comments (§ 3) are sections of that page. Whatever
departs from the page ends the run with status 1 and a message that names file and offset.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import struct
import sys
import zlib
from array import array
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace as Fields
from typing import Any, BinaryIO
from urllib.parse import quote

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ALIGN, PIECE, PAGE_PIECES = 4096, 65536, 65536
NOBODY, ZERO_DIGEST = 0xFFFFFFFF, bytes(16)
KINDS = {1: "full", 2: "increment", 3: "rollback"}
ROLLBACK = 3
NAME = re.compile(r"[0-9]{8}-(full|increment|rollback)\.hfc")
MOST_COST = (4 << 20, 64, 64)  # KiB of memory, passes and lanes of Argon2id
UNIT_RECORD, PAGE_RECORD, NOTES_RECORD, FILE_RECORD = 1, 2, 3, 4
SAMPLE_EVERY, PAGES_KEPT = 64, 32  # with --check fast one unit in so many has a piece digest computed


class Departure(Exception):
    """What was read is not what the page says; the message names file and offset."""

    def __init__(self, file: str, offset: int, what: str) -> None:
        super().__init__(f"{file}: offset {offset}: {what}")


# --- BLAKE3, keyed mode. All chunks of a call are hashed at once: word k of every chunk lies in one
# big integer, 64 bits apart, so one addition of Python adds up thousands of lanes.

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A)
ORDER = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
MIX = [(k % 4, *(n + (k % 4 + k // 4 * n // 4) % 4 for n in (4, 8, 12))) for k in range(8)]
START, END, PARENT, ROOT, KEYED = 1, 2, 4, 8, 16


def _pack(lanes: array[int]) -> int:
    return int.from_bytes(lanes.tobytes(), "little")


def _compress(value: list[int], words: list[int], ones: int, *tail: int) -> list[int]:
    mask = 0xFFFFFFFF * ones
    v = [*value, *(word * ones for word in IV), *tail]
    for _ in range(7):
        for k, (ia, ib, ic, id_) in enumerate(MIX):
            a, b, c, d = v[ia], v[ib], v[ic], v[id_]
            for word, first, second in ((words[2 * k], 16, 12), (words[2 * k + 1], 8, 7)):
                a = (a + b + word) & mask
                d ^= a
                d = (d >> first | d << 32 - first) & mask
                c = (c + d) & mask
                b ^= c
                b = (b >> second | b << 32 - second) & mask
            v[ia], v[ib], v[ic], v[id_] = a, b, c, d
        words = [words[k] for k in ORDER]
    return [v[k] ^ v[k + 8] for k in range(8)]


def _chunks(key: list[int], data: bytes, counters: array[int], root: int) -> list[int]:
    """Chaining values of chunks of equal size, one per counter."""
    lanes = len(counters)
    size, ones = len(data) // lanes, _pack(array("Q", [1]) * lanes)
    blocks = max(1, -(-size // 64))
    words = array("Q", array("I", data + bytes(lanes * blocks * 64 - len(data))).tolist())
    value = [word * ones for word in key]
    for block in range(blocks):
        message = [_pack(words[block * 16 + word :: blocks * 16]) for word in range(16)]
        flags = KEYED | (START if block == 0 else 0) | (END | root if block == blocks - 1 else 0)
        length = min(64, size - 64 * block)
        value = _compress(value, message, ones, _pack(counters), 0, length * ones, flags * ones)
    return value


def blake3_each(key: bytes, data: bytes, count: int) -> list[bytes]:
    """Keyed digests of the `count` messages in `data`; several are each 1024 * 2^n bytes long."""
    words, each = list(struct.unpack("<8I", key)), len(data) // count
    full, root = each // 1024, ROOT if each <= 1024 else 0
    cut, values = len(data) - each % 1024, [array("Q") for _ in range(8)]
    counters = array("Q", range(full)) * count
    parts = [(data[:cut], counters)] if full else []
    parts += [(data[cut:], array("Q", [full]))] if each % 1024 or not each else []
    for part, numbers in parts:
        for column, word in zip(values, _chunks(words, part, numbers, root), strict=True):
            column.frombytes(word.to_bytes(8 * len(numbers), "little"))
    while (left := len(values[0])) > count:
        pairs, ones = left // 2, _pack(array("Q", [1]) * (left // 2))
        message = [_pack(v[side : 2 * pairs : 2]) for side in (0, 1) for v in values]
        flags = KEYED | PARENT | (ROOT if left == 2 * count else 0)
        joined = _compress([word * ones for word in words], message, ones, 0, 0, 64 * ones, flags * ones)
        values = [
            array("Q", word.to_bytes(8 * pairs, "little")) + column[2 * pairs :]
            for word, column in zip(joined, values, strict=True)
        ]
    return [struct.pack("<8I", *lanes) for lanes in zip(*values, strict=True)]


def blake3(key: bytes, data: bytes) -> bytes:
    return blake3_each(key, data, 1)[0]


# --- Codecs (§ 4) and keys (§ 5)


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


def _lz4_length(data: bytes, at: int, nibble: int) -> tuple[int, int]:
    more = nibble == 15
    while more:
        nibble, at, more = nibble + data[at], at + 1, data[at] == 255
    return nibble, at


def lz4_block(data: bytes, raw: int) -> bytes:
    """Decode an LZ4 block that must come out as `raw` bytes; ValueError or IndexError if not."""
    out, at = bytearray(), 0
    while len(out) <= raw:
        token = data[at]
        count, at = _lz4_length(data, at + 1, token >> 4)
        out += data[at : at + count]
        at += count
        if at >= len(data):
            break
        start = len(out) - (data[at] | data[at + 1] << 8)
        count, at = _lz4_length(data, at + 2, token & 15)
        _expect(0 <= start < len(out), "an LZ4 match outside the block")
        pattern = out[start : start + count + 4]
        out += (pattern * ((count + 4) // len(pattern) + 1))[: count + 4]
    _expect(len(out) == raw and at == len(data), f"LZ4 gives {len(out)} bytes instead of {raw}")
    return bytes(out)


def decode(codec: int, data: bytes, raw: int) -> bytes:
    """The body; ValueError, IndexError or ZstdError when it does not decode to `raw` bytes."""
    _expect(codec in {0, 1, 2}, f"unknown codec {codec}")
    if codec == 1:
        data = lz4_block(data, raw)
    elif codec == 2:
        _expect(zstandard.frame_content_size(data) in {-1, raw}, "the frame names another size")
        data = zstandard.ZstdDecompressor().decompress(data, max_output_size=raw, allow_extra_data=False)
    _expect(len(data) == raw, f"{len(data)} bytes instead of {raw}")
    return data


@functools.cache
def password_key(passphrase: str, salt: bytes, memory: int, passes: int, lanes: int) -> bytes:
    kdf = Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory)
    return kdf.derive(passphrase.encode())


@functools.cache
def hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(key)


# Superblock (§ 3) and record header (§ 4)
SUPERBLOCK = """magic:8s version:H reader_min:H kind:B cipher:B unit_shift:B state:B generation:Q end:Q chain_id:16s
    file_id:16s key_id:16s root_offset:Q root_length:I zero:I root_digest:16s salt:16s memory_kib:I iterations:I
    lanes:I wrap_nonce:12s wrapped_key:48s"""
HEADER = """magic:8s kind:B codec:B cipher:B pieces:B stored:I raw:I number:I generation:Q
    file_id:16s key_id:16s point:I payload_crc:I zero:I header_crc:I"""


def fields(layout: str, data: bytes) -> Fields:
    names = [field.partition(":") for field in layout.split()]
    values = struct.unpack_from("<" + "".join(code for _, _, code in names), data)
    return Fields(**dict(zip((name for name, _, _ in names), values, strict=True)))


Ref = tuple[int, int, bytes]  # offset, length, digest
Table = tuple[int, Ref | None]  # depth and top
Unit = tuple[int, list[tuple[bytes, int, bytes]], bytes]  # offset, piece list, body
Note = tuple[bytes, int, int, bytes]  # disk tag, first piece, count, digest


class ChainFile:
    """One file: its valid superblock, its contents page, and records on demand."""

    def __init__(self, path: Path, passphrase: str | None) -> None:
        self.path, self.size, self._passphrase = path, path.stat().st_size, passphrase
        self.page, self.places = functools.lru_cache(PAGES_KEPT)(self._page), functools.lru_cache(1)(self._places)
        self.slots = slots = [slot for slot in (self._slot(0), self._slot(1)) if slot]
        self.need(len(slots) > 0, 0, "no superblock slot counts: damage or a wrong passphrase")
        alike = {(top.kind, top.cipher, top.unit_shift, top.chain_id, top.file_id) for top, _ in slots}
        self.need(len(alike) == 1, 0, "the slots differ in kind, cipher, unit size or ids")
        self.top, self.chain_key = max(slots, key=lambda slot: slot[0].generation)
        self.digest_key = hkdf(self.chain_key, self.top.chain_id, b"holdfast digest")
        self.common = self.top.chain_id, self.top.cipher, self.top.unit_shift, self.chain_key
        self.per_unit, self.at = (1 << self.top.unit_shift) // PIECE, self.top.root_offset
        try:
            self._read_contents(json.loads(self.page((self.at, self.top.root_length, self.top.root_digest))))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise Departure(path.name, self.at, f"the contents page: {error!r}") from error

    def need(self, holds: bool, offset: int, what: str) -> None:
        if not holds:
            raise Departure(self.path.name, offset, what)

    def read(self, offset: int, length: int) -> bytes:
        with self.path.open("rb") as stream:
            stream.seek(offset)
            data = stream.read(length)
        self.need(len(data) == length, offset, f"the file ends before {offset + length}")
        return data

    def _slot(self, index: int) -> tuple[Fields, bytes] | None:
        """Superblock and chain key of a slot, None if it does not count."""
        block = self.read(at := ALIGN * index, ALIGN)
        top, crc = fields(SUPERBLOCK, block), int.from_bytes(block[4060:4064], "little")
        if top.magic != b"HFCHAIN1" or crc != zlib.crc32(block[:4060]):
            return None
        self.need(top.reader_min <= 1, at, f"needs a reader of version {top.reader_min}")
        key = self._chain_key(top, at)
        if key is None or blake3(hkdf(key, top.file_id, b"holdfast seal"), block[:4064]) != block[4064:]:
            return None
        self._check_superblock(top, at, block)
        return top, key

    def _chain_key(self, top: Fields, at: int) -> bytes | None:
        if top.cipher == 0:
            return bytes(top.chain_id * 2)
        cost = top.memory_kib, top.iterations, top.lanes
        if top.cipher > 1 or any(value > most for value, most in zip(cost, MOST_COST, strict=True)):
            return None
        self.need(self._passphrase is not None, at, "encrypted, and no passphrase was given")
        try:
            key = password_key(self._passphrase or "", top.salt, *cost)
            return AESGCM(key).decrypt(top.wrap_nonce, top.wrapped_key, b"holdfast chain key" + top.chain_id)
        except (InvalidTag, ValueError):
            return None

    def _check_superblock(self, top: Fields, at: int, block: bytes) -> None:
        # Without cipher anybody can make a valid superblock.
        self.need(top.cipher == 1 or self._passphrase is None, at, "plain, and a passphrase was given")
        # A newer writer may have given a meaning to what was zero.
        zero = top.version > 1 or not (top.zero or any(block[200:4060]))
        rules = {
            "kind": top.kind in KINDS,
            "unit_shift": top.unit_shift in {18, 19, 20, 22},
            "state": top.state in {1, 2},
            "generation": top.generation >= 1 and top.generation % 2 * ALIGN == at,
            "end": top.end % ALIGN == 0 and 2 * ALIGN <= top.end <= self.size,
            "zero": zero and (top.cipher == 1 or not any(top.salt + top.wrapped_key)),
        }
        for name, right in rules.items():
            self.need(right, at, f"{name} of the superblock cannot be {getattr(top, name)}")

    def record(self, offset: int, length: int, kind: int) -> tuple[Fields, bytes, bytes]:
        """Header, piece list and decoded body of the record at `offset`."""
        inside = offset >= 2 * ALIGN and offset % ALIGN == 0 and length >= 80 and offset + length <= self.top.end
        self.need(inside, offset, f"no room for {length} bytes of record")
        data = self.read(offset, length + -length % ALIGN)
        self.need(not any(data[length:]), offset + length, "the gap behind the record is not zero")
        head, payload = fields(HEADER, data), data[80:length]
        expected = {"magic": b"HFRECORD", "header_crc": zlib.crc32(data[:76]), "kind": kind, "stored": len(payload)}
        expected |= {"payload_crc": zlib.crc32(payload), "cipher": self.top.cipher}
        expected |= {"zero": 0 if self.top.version == 1 else head.zero}
        for name, value in expected.items():
            self.need(getattr(head, name) == value, offset, f"{name} of the record is not {value}")
        nonce, cut = struct.pack("<QI", head.generation, head.number), 28 * head.pieces
        try:
            if head.cipher:
                key = hkdf(self.chain_key, head.key_id, b"holdfast record")
                payload = AESGCM(key).decrypt(nonce, payload, data[:68])
            smaller = kind != UNIT_RECORD or head.codec == 0 or len(payload) - cut < head.raw
            _expect(smaller, "a compressed unit did not become smaller")
            return head, payload[:cut], decode(head.codec, payload[cut:], head.raw)
        except (InvalidTag, ValueError, IndexError, zstandard.ZstdError) as error:
            raise Departure(self.path.name, offset + 80, f"the payload: {error!r}") from error

    def _page(self, ref: Ref, kind: int = PAGE_RECORD) -> bytes:
        head, _, body = self.record(*ref[:2], kind)
        self.need(head.pieces == 0, ref[0] + 11, "a page or notes with pieces")
        self.need(blake3(self.digest_key, body)[:16] == ref[2], ref[0], "another page digest")
        return body

    def unit(self, number: int) -> Unit:
        self.need(number < self.unit_count, self.at, f"unit {number} is not counted")
        offset, length, point = struct.unpack("<QII", self.row(self.units, number, 16))
        head, listed, body = self.record(offset, length, UNIT_RECORD)
        self.need(head.point == point, offset + 64, f"point {head.point}, units say {point}")
        right = 1 <= head.pieces <= self.per_unit and head.raw == head.pieces * PIECE
        self.need(right, offset, f"a unit of {head.pieces} pieces and {head.raw} bytes")
        return offset, list(struct.iter_unpack("<8sI16s", listed)), body

    def notes(self) -> list[Note]:
        """The entries of all notes records in the order they were written."""
        found: list[Note] = []
        for index in range(self.notes_count):
            body = self.table_page(self.notes_table, index, NOTES_RECORD)
            self.need(body is not None and len(body) % 32 == 0, self.at, f"notes {index} are absent or cut")
            found += struct.iter_unpack("<8sII16s", body or b"")
        return found

    def row(self, table: Table, number: int, size: int) -> bytes:
        """Entry `number` of a table whose pages have 1024 entries."""
        page = self.table_page(table, number // 1024) or b""
        self.need(len(page) == 1024 * size, self.at, f"the page of entry {number} has another size")
        return page[number % 1024 * size :][:size]

    def table_page(self, table: Table, index: int, kind: int = PAGE_RECORD) -> bytes | None:
        depth, ref = table
        if ref is None or index >> 9 * depth:
            return None
        for level in range(depth - 1, -1, -1):
            body = self.page(ref)
            self.need(len(body) == 512 * 28, ref[0], f"a directory of {len(body)} bytes")
            ref = struct.unpack_from("<QI16s", body, (index >> 9 * level & 511) * 28)
            if ref == (0, 0, ZERO_DIGEST):
                return None
        return self.page(ref, kind)

    def _places(self, machine: str, key: str, index: int) -> array[int]:
        """The place of each of the 65536 pieces of a page of a disk, -1 where it is not held."""
        found = array("q", [-1]) * PAGE_PIECES
        if (page := self.table_page(self.piece_tables.get((machine, key), (0, None)), index)) is None:
            return found
        count = int.from_bytes(page[:4], "little")
        self.need(len(page) == 4 + 8 * count, self.at, f"piece table page {index} has a wrong size")
        piece = place = 0
        flat = struct.unpack(f"<4x{2 * count}H{count}I", page)
        for gap, less, jump in zip(*(flat[k * count :][:count] for k in range(3)), strict=True):
            piece, place, run = piece + gap, (place + jump) % 2**32, less + 1
            self.need(piece + run <= PAGE_PIECES and place + run <= 2**32, self.at, f"a run of page {index} leaves it")
            found[piece : piece + run] = array("q", range(place, place + run))
            piece, place = piece + run, place + run
        return found

    def map_page(self, table: Table, index: int) -> tuple[bytes, list[tuple[int, int, int]]]:
        """The 64 segment digests, and the runs that are not zeros: start, count, writer."""
        if (page := self.table_page(table, index)) is None:
            return bytes(1024), []
        count = int.from_bytes(page[1024:1028], "little")
        self.need(len(page) == 1028 + 6 * count, self.at, f"map page {index} has a wrong size")
        flat = struct.unpack(f"<1028x{count}H{count}I", page)
        runs, start = [], 0
        for less, writer in zip(flat[:count], flat[count:], strict=True):
            runs.append((start, less + 1, writer))
            start += less + 1
        self.need(start == PAGE_PIECES, self.at, f"map page {index} covers {start} pieces")
        return page[:1024], [run for run in runs if run[2] != NOBODY]

    def _read_contents(self, body: dict[str, Any]) -> None:
        top = self.top
        expected = {"format": 1, "kind": KINDS[top.kind], "unit_size": 1 << top.unit_shift, "file": top.file_id.hex()}
        for name, value in (expected | {"chain": top.chain_id.hex()}).items():
            _expect(body[name] == value, f"{name} is {body[name]!r}")
        self.holds = range(body["holds"][0], body["holds"][1] + 1)
        _expect(len(self.holds) > 0, f"holds is {body['holds']}")
        self.unit_count, self.units = body["units"]["count"], self._table(body["units"]["table"])
        self.notes_count, self.notes_table = body["notes"]["count"], self._table(body["notes"]["table"])
        self.digests = self._table(body["digests"])
        self.disks = [(d["machine"], d["key"], self._table(d["pieces"])) for d in body["disks"]]
        self.piece_tables = {disk[:2]: disk[2] for disk in self.disks}
        _expect(len(self.piece_tables) == len(self.disks), "a disk is listed twice")
        self.points = [self._point(point) for point in body["points"]]
        self.parent = body["parent"] and self.points and bytes.fromhex(body["parent"]["root"])

    def _table(self, source: dict[str, Any]) -> Table:
        top, depth = source["top"], int(source["depth"])
        _expect(0 <= depth <= 8, f"a table of depth {depth}")
        return depth, top and (int(top["offset"]), int(top["length"]), bytes.fromhex(top["digest"]))

    def _point(self, source: dict[str, Any]) -> Fields:
        point, machine = Fields(**source), source["machine"]["machine_id"]
        point.id, point.machine = bytes.fromhex(point.id), machine
        point.parent_root = point.parent_root and bytes.fromhex(point.parent_root)
        point.root = point.root and bytes.fromhex(point.root)
        point.disks = [self._disk(disk, machine, point.complete) for disk in point.disks]
        files = source.get("files", [])
        point.files = [(file["name"], file["size"], self._table({"depth": 0, "top": file["ref"]})[1]) for file in files]
        names = {name for name, *_ in point.files if not re.search(r"^\.?\.?$|[/\0-\x1f\x7f]|.{256}", name)}
        _expect(len(names) == len(files) <= 16, f"point {point.number} has files that cannot be")
        rooted = all([point.root, *(disk.root for disk in point.disks)])
        _expect(rooted or not point.complete, f"point {point.number} has no root")
        return point

    def _disk(self, source: dict[str, Any], machine: str, complete: bool) -> Fields:
        disk = Fields(**source)
        same = self.disks[disk.disk][:2] == (machine, disk.key) and disk.disk >= 0
        _expect(same, f"disk {disk.disk} is not {disk.key} of {machine}")
        _expect(disk.size % 512 == 0 and 0 < disk.size <= 64 << 40, f"disk of {disk.size} bytes")
        _expect(disk.done == -(-disk.size // PIECE) or not complete, f"done is {disk.done}")
        disk.map, disk.root = self._table(disk.map), disk.root and bytes.fromhex(disk.root)
        return disk


# --- The chain and the restore (§ 6, § 9)


class Chain:
    """All chain files of a folder."""

    def __init__(self, folder: Path, passphrase: str | None) -> None:
        paths = sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name))
        self.files = [ChainFile(path, passphrase) for path in paths]
        if not self.files:
            raise Departure(str(folder), 0, "no chain file in the folder")
        first, roots = self.files[0], dict[int, bytes | None]()
        for file in self.files:
            file.need(KINDS[file.top.kind] in file.path.name, 12, "another kind than the name says")
            file.need(file.common == first.common, 0, f"another chain, cipher or unit size than {first.path.name}")
            for point in file.points:
                same = roots.setdefault(point.number, point.root) == point.root
                file.need(same, file.at, f"point {point.number} has two roots")
        shared = len({point.machine for file in self.files for point in file.points}) > 1
        for file in (file for file in self.files if file.parent):
            known = {file.points[0].parent_root, *(roots.values() if shared else ())}
            file.need(file.parent in known, file.at, "the first point has another parent_root than parent")

    def find(self, wanted: str, machine: str) -> tuple[ChainFile, Fields]:
        found = [
            (point.number, point.complete, index)
            for index, file in enumerate(self.files)
            for point in file.points
            if point.machine == machine and wanted in {str(point.number), point.id.hex(), "latest" * point.complete}
        ]
        if not found:
            raise Departure("chain", 0, f"no point {wanted} of machine {machine}")
        number, complete, index = max(found)
        (file := self.files[index]).need(complete, file.at, f"point {number} is not complete")
        return file, next(point for point in file.points if point.number == number)

    def sources(self, file: ChainFile, point: Fields, writer: int) -> list[int]:
        """Indices of the files to look for what `writer` wrote, in order (§ 9, step 2)."""
        if file.top.kind != ROLLBACK:
            usual = [(at, f) for at, f in enumerate(self.files) if f.top.kind != ROLLBACK]
            held = [(f.holds[0], at) for at, f in usual if writer in f.holds]
            file.need(bool(held), file.at, f"no file holds what point {writer} wrote")
            return [min(held)[1]]
        numbered = [(f.points[0].number, at) for at, f in enumerate(self.files) if f.top.kind == ROLLBACK and f.points]
        newer = [at for number, at in sorted(numbered) if number > point.number]
        fulls = [at for at, f in enumerate(self.files) if f.top.kind == 1]
        return [self.files.index(file), *newer, *fulls]


class Restore:
    """One restore of one point: roots first, then the pieces, unit by unit."""

    def __init__(self, chain: Chain, file: ChainFile, point: Fields, full: bool) -> None:
        self.chain, self.file, self.point, self.full, self.units_read = chain, file, point, full, 0

    def check_roots(self) -> None:
        file, point = self.file, self.point
        total = (b"HFPOINTF" if point.files else b"HFPOINT\0") + point.id + (point.parent_root or bytes(32))
        total += struct.pack("<H", len(point.files)) if point.files else b""
        for name, size, ref in point.files:
            total += struct.pack("<H", len(encoded := name.encode())) + encoded + struct.pack("<Q", size) + ref[2]
        for disk in point.disks:
            cut, pages = -(-disk.size // (64 << 20)) * 16, range(-(-disk.size // (PAGE_PIECES * PIECE)))
            digests = b"".join(file.map_page(disk.map, index)[0] for index in pages)
            file.need(not any(digests[cut:]), file.at, f"{disk.key}: segments behind the end")
            root = blake3(file.digest_key, b"HFDISK\0\0" + disk.size.to_bytes(8, "little") + digests[:cut])
            file.need(root == disk.root, file.at, f"{disk.key}: the disk root does not fit")
            total += len(key := disk.key.encode()).to_bytes(2, "little") + key + root
        root = blake3(file.digest_key, total)
        file.need(root == point.root, file.at, f"the root of point {point.number} does not fit")

    def write(self, out: Path) -> dict[str, Path]:
        """Write every disk to a file of its own, and machine files below `files`; disk key -> file."""
        self.check_roots()
        (out / ("files" * bool(self.point.files))).mkdir(parents=True, exist_ok=True)
        for name, size, ref in (file for file in self.point.files if file[2][1]):  # without those that are lost
            self.file.need(len(body := self.file.page(ref, FILE_RECORD)) == size, ref[0], f"{name} has another size")
            (out / "files" / name).write_bytes(body)
        written = {}
        for disk in self.point.disks:
            partial = out / f"{quote(disk.key, safe='')}.raw.partial"
            with partial.open("wb") as stream:
                stream.truncate(disk.size)
                for index in range(-(-disk.size // (PAGE_PIECES * PIECE))):
                    self._write_page(disk, index, stream)
            written[disk.key] = partial.replace(partial.with_suffix(""))
        return written

    def _write_page(self, disk: Fields, index: int, stream: BinaryIO) -> None:
        """Write the pieces of one map page in the order they are packed: each unit is read once."""
        segments, runs = self.file.map_page(disk.map, index)
        column = bytearray(PAGE_PIECES * 16)
        wanted = sorted(self._find_pieces(disk, index, runs))
        for (holder_at, number), group in groupby(wanted, lambda row: row[:2]):
            holder = self.chain.files[holder_at]
            offset, entries, body = unit = holder.unit(number)
            self._check_contents(holder, unit)
            for _, _, slot, inside in group:
                piece = index * PAGE_PIECES + inside
                digest = holder.row(holder.digests, number * holder.per_unit + slot, 16)
                # The list may name another piece: one with the same digest, stored before (§ 4).
                right = slot < len(entries) and entries[slot][2] == digest != ZERO_DIGEST
                holder.need(right, offset, f"slot {slot} has not the digest of piece {piece} of {disk.key}")
                column[inside * 16 : inside * 16 + 16] = digest
                data, left = body[slot * PIECE : (slot + 1) * PIECE], disk.size - piece * PIECE
                holder.need(not any(data[left:]), offset, f"piece {piece} goes on behind the end")
                stream.seek(piece * PIECE)
                stream.write(data[:left])
        self._check_segments(disk, index, segments, bytes(column))

    def _find_pieces(self, disk: Fields, index: int, runs: list[Any]) -> list[tuple[int, ...]]:
        """File, unit, slot, and piece inside the page of every piece that is not zeros."""
        file, end, rows, named = self.file, -(-disk.size // PIECE), [], f"{disk.key}: map page {index}"
        for start, count, writer in runs:
            file.need(writer <= self.point.number, file.at, f"{named} names the later point {writer}")
            file.need(index * PAGE_PIECES + start + count <= end, file.at, f"{named} has pieces behind the end")
            order, machine = self.chain.sources(file, self.point, writer), self.point.machine
            sources = [(number, self.chain.files[number].places(machine, disk.key, index)) for number in order]
            for piece in range(start, start + count):
                hits = ((n, table[piece]) for n, table in sources if table[piece] >= 0)
                if (hit := next(hits, None)) is None:
                    raise Departure(file.path.name, file.at, f"{named}: nobody has piece {piece} of point {writer}")
                rows += [(hit[0], *divmod(hit[1], self.chain.files[hit[0]].per_unit), piece)]
        return rows

    def _check_contents(self, holder: ChainFile, unit: Unit) -> None:
        """Compute piece digests: of all slots, or of one slot now and then."""
        offset, entries, body = unit
        count = len(entries) if self.full else int(self.units_read % SAMPLE_EVERY == 0)
        self.units_read += 1
        found = blake3_each(holder.digest_key, body[: count * PIECE], count) if count else []
        same = [digest[:16] for digest in found] == [entry[2] for entry in entries[:count]]
        holder.need(same, offset, "a piece is not what its digest says")

    def _check_segments(self, disk: Fields, index: int, segments: bytes, column: bytes) -> None:
        for k in range(64):
            part, what = column[k * 16384 : (k + 1) * 16384], f"segment {index * 64 + k} is not its piece digests"
            found = blake3(self.file.digest_key, part)[:16] if any(part) else ZERO_DIGEST
            self.file.need(found == segments[k * 16 : k * 16 + 16], self.file.at, f"{disk.key}: {what}")


# --- For callers, and the command line


def restore(
    folder: Path, point: str, machine: str, out: Path, *, passphrase: str | None = None, check: str = "fast"
) -> dict[str, Path]:
    """Write the disks of a point (number, id or "latest") as raw files below `out`; disk key -> file."""
    _expect(check in {"fast", "full"}, f"unknown check {check!r}")
    chain = Chain(folder, passphrase)
    return Restore(chain, *chain.find(point, machine), check == "full").write(out)


def listing(chain: Chain) -> str:
    lines = []
    for file in chain.files:
        head, state = f"{file.path.name}: {KINDS[file.top.kind]}", ("being written", "complete")[file.top.state - 1]
        more = f"generation {file.top.generation}, {len(file.slots)} slots, {state}"
        lines.append(f"{head}, {more}, holds {file.holds[0]}-{file.holds[-1]}")
        for point in file.points:
            state = f"complete {point.root.hex()}" if point.complete else "not complete"
            lines.append(f" {point.number} {point.id.hex()} {point.machine} {point.created} {state}")
            lines += [f"    {disk.key} {disk.size}" for disk in point.disks]
            lines += [f"    file {name} {size}" for name, size, _ in point.files]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Read a chain by the format page alone.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--list", action="store_true", help="list files and points")
    parser.add_argument("--restore", metavar="POINT", help='number, id or "latest"')
    parser.add_argument("--machine", help="id of the machine")
    for name in ("--out", "--passphrase-file"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--check", choices=("fast", "full"), default="fast")
    args = parser.parse_args(arguments)
    if not args.list and not (args.restore and args.machine and args.out):
        parser.error("either --list or --restore with --machine and --out")
    phrase = args.passphrase_file and args.passphrase_file.read_bytes().decode().removesuffix("\n").removesuffix("\r")
    try:
        if args.list:
            sys.stdout.write(listing(Chain(args.folder, phrase)))
        if args.restore:
            written = restore(args.folder, args.restore, args.machine, args.out, passphrase=phrase, check=args.check)
            sys.stdout.write("".join(f"restored {key} to {path}\n" for key, path in written.items()))
    except (Departure, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
