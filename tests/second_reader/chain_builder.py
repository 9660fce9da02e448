"""Lays out small chain files by docs/formats/chain-file.md, for tests of the second reader."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import blake3 as reference
import lz4.block
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

if TYPE_CHECKING:
    import random
    from pathlib import Path

PIECE, NOBODY = 65536, 0xFFFFFFFF
MACHINE = "vm-7"
KEYS = ["scsi0:0", "datastore/big disk"]
SIZES = [3 * PIECE + 512, 5 << 30]
PASSPHRASE = "correct horse"

# piece -> 64 KiB; one such dictionary for each disk
Contents = list[dict[int, bytes]]
Ref = tuple[int, int, bytes]  # offset, length, digest


def hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(key)


@dataclass
class TinyChain:
    """Writes one file for each point: units of four pieces, equal pieces once, the rest by notes."""

    folder: Path
    encrypted: bool
    random: random.Random
    disks: Contents = field(default_factory=lambda: [{}, {}])
    writers: list[dict[int, int]] = field(default_factory=lambda: [{}, {}])
    root: bytes | None = None
    file_id: bytes = b""
    number: int = 0
    first: int = 0  # point from which the next file says to hold, 0 for its own alone

    def __post_init__(self) -> None:
        self.chain_id, self.salt = self.random.randbytes(16), self.random.randbytes(16)
        self.nonce = self.random.randbytes(12)
        self.key, self.wrapped = self.chain_id * 2, bytes(48)
        if self.encrypted:
            self.key = self.random.randbytes(32)
            kdf = Argon2id(salt=self.salt, length=32, iterations=1, lanes=1, memory_cost=64)
            wrap = AESGCM(kdf.derive(PASSPHRASE.encode()))
            named = b"holdfast chain key" + self.chain_id
            self.wrapped = wrap.encrypt(self.nonce, self.key, named)

    def digest(self, data: bytes) -> bytes:
        key = hkdf(self.key, self.chain_id, b"holdfast digest")
        return reference.blake3(data, key=key).digest()

    def add(self, changes: Contents, kind: int = 2) -> Path:
        """Write the next point; a change of zeros clears the piece."""
        self.number, parent = self.number + 1, (self.file_id.hex(), self.number, self.root)
        self.file_id, self.key_id = self.random.randbytes(16), self.random.randbytes(16)
        self.out, self.records = bytearray(8192), 0
        held = [{p: d for p, d in disk.items() if any(d)} for disk in changes]
        for disk, written, writers in zip(self.disks, changes, self.writers, strict=True):
            disk.update(written)
            writers.update((p, self.number if any(d) else NOBODY) for p, d in written.items())
        places, units, digests = self.write_units(held)
        notes = self.write_notes(changes, places, digests)
        contents = {
            "format": 1,
            "chain": self.chain_id.hex(),
            "file": self.file_id.hex(),
            "kind": {1: "full", 2: "increment"}[kind],
            "unit_size": 4 * PIECE,
            "created": "2026-01-02T03:04:05Z",
            "parent": None,
            "holds": [self.first or self.number, self.number],
            "units": {"count": len(units), "table": self.table({0: padded(units)})},
            "digests": self.table({0: padded(digests)}),
            "notes": {"count": len(notes), "table": self.table_of(dict(enumerate(notes)))},
            "disks": [
                {"machine": MACHINE, "key": key, "pieces": self.table(piece_pages(place))}
                for key, place in zip(KEYS, places, strict=True)
            ],
            "points": [self.point()],
            "unknown": "ignored",
        }
        if parent[2]:
            named = {"file": parent[0], "point": parent[1], "root": parent[2].hex()}
            contents["parent"] = named
        return self.finish(kind, self.page(json.dumps(contents).encode()))

    def write_units(self, held: Contents) -> tuple[list[dict[int, int]], list[bytes], list[bytes]]:
        places: list[dict[int, int]] = [{}, {}]
        units, digests, first_places = [], [], dict[bytes, int]()
        flat: list[tuple[int, int]] = []
        for disk, pieces in enumerate(held):
            for piece, data in pieces.items():
                digest = self.digest(data)[:16]
                place = places[disk][piece] = first_places.setdefault(digest, len(flat))
                if place == len(flat):
                    flat.append((disk, piece))
        for unit, first in enumerate(range(0, len(flat), 4)):
            listed, body = b"", b""
            for disk, piece in flat[first : first + 4]:
                digest = self.digest(held[disk][piece])[:16]
                listed += self.tag(disk) + struct.pack("<I16s", piece, digest)
                body += held[disk][piece]
                digests.append(digest)
            packed = [body, lz4.block.compress(body, store_size=False), zstandard.compress(body)]
            codec = unit % 3 if len(packed[unit % 3]) < len(body) else 0
            tail = listed + packed[codec]
            at, length = self.record(1, codec, len(listed) // 28, tail, len(body))
            units.append(struct.pack("<QII", at, length, self.number))
        self.stored = set(flat)
        return places, units, digests

    def write_notes(self, changes: Contents, places: list[dict[int, int]], digests: list[bytes]) -> list[Ref]:
        """One record for each disk with pieces that became zeros or share the place of another."""
        notes = []
        for disk, pieces in enumerate(changes):
            body = b""
            for piece in sorted(pieces):
                if (disk, piece) not in self.stored:
                    place = places[disk].get(piece)
                    digest = bytes(16) if place is None else digests[place]
                    body += self.tag(disk) + struct.pack("<II16s", piece, 1, digest)
            if body:
                notes.append(self.page(body, kind=3))
        return notes

    def tag(self, disk: int) -> bytes:
        return self.digest(f"HFTAG\0\0\0{MACHINE}\0{KEYS[disk]}".encode())[:8]

    def record(self, kind: int, codec: int, pieces: int, payload: bytes, raw: int) -> Any:
        at, generation = len(self.out), 1
        stored = len(payload) + 16 * self.encrypted
        head = struct.pack(
            "<8sBBBBIII",
            b"HFRECORD",
            kind,
            codec,
            self.encrypted,
            pieces,
            stored,
            raw,
            self.records,
        )
        head += struct.pack("<Q16s16sI", generation, self.file_id, self.key_id, self.number)
        if self.encrypted:
            nonce = struct.pack("<QI", generation, self.records)
            key = hkdf(self.key, self.key_id, b"holdfast record")
            payload = AESGCM(key).encrypt(nonce, payload, head)
        head += struct.pack("<II", zlib.crc32(payload), 0)
        self.out += head + struct.pack("<I", zlib.crc32(head)) + payload
        length = len(self.out) - at
        self.out += bytes(-len(self.out) % 4096)
        self.records += 1
        return at, length

    def page(self, body: bytes, kind: int = 2) -> Ref:
        packed = zstandard.compress(body)
        codec = 2 if len(packed) < len(body) else 0
        at, length = self.record(kind, codec, 0, packed if codec else body, len(body))
        return at, length, self.digest(body)[:16]

    def table(self, pages: dict[int, bytes]) -> dict[str, Any]:
        return self.table_of({index: self.page(body) for index, body in pages.items()})

    def table_of(self, refs: dict[int, Ref]) -> dict[str, Any]:
        """Depth 0 for page 0 alone, otherwise depth 1."""
        depth = int(bool(set(refs) - {0}))
        top = refs.get(0)
        if depth:
            entries = (struct.pack("<QI16s", *refs.get(i, (0, 0, b""))) for i in range(512))
            top = self.page(b"".join(entries))
        named = top and {"offset": top[0], "length": top[1], "digest": top[2].hex()}
        return {"depth": depth, "top": named}

    def point(self) -> dict[str, Any]:
        disks, point_id, parent = [], self.random.randbytes(16), self.root
        total = b"HFPOINT\0" + point_id + (parent or bytes(32))
        for index, (key, size) in enumerate(zip(KEYS, SIZES, strict=True)):
            segments, pages = self.map_pages(index)
            end = -(-size // (64 << 20)) * 16
            root = self.digest(b"HFDISK\0\0" + struct.pack("<Q", size) + segments[:end])
            total += struct.pack("<H", len(key)) + key.encode() + root
            disk = {"disk": index, "key": key, "size": size, "change_id": None}
            disk["done"] = -(-size // PIECE)
            disks.append(disk | {"map": self.table(pages), "root": root.hex(), "detail": ""})
        self.root = self.digest(total)
        return {
            "number": self.number,
            "id": point_id.hex(),
            "session": "s",
            "machine": {"machine_id": MACHINE, "name": "", "power": "", "configuration": ""},
            "created": "2026-01-02T03:04:05Z",
            "consistency": "crash",
            "complete": True,
            "parent_root": parent and parent.hex(),
            "root": self.root.hex(),
            "snapshot": "",
            "disks": disks,
        }

    def map_pages(self, index: int) -> tuple[bytes, dict[int, bytes]]:
        disk, writers = self.disks[index], self.writers[index]
        segments, pages = b"", {}
        for number in range(-(-SIZES[index] // (4 << 30))):
            column = [bytes(16)] * 65536
            names = [writers.get(number * 65536 + i, NOBODY) for i in range(65536)]
            for i, name in enumerate(names):
                if name != NOBODY:
                    column[i] = self.digest(disk[number * 65536 + i])[:16]
            parts = [b"".join(column[k : k + 1024]) for k in range(0, 65536, 1024)]
            page = b"".join(self.digest(part)[:16] if any(part) else bytes(16) for part in parts)
            segments += page
            cuts = [i for i in range(65536) if i == 0 or names[i] != names[i - 1]]
            counts = [b - a - 1 for a, b in zip(cuts, [*cuts[1:], 65536], strict=True)]
            page += struct.pack(f"<I{len(cuts)}H", len(cuts), *counts)
            if any(name != NOBODY for name in names):
                pages[number] = page + struct.pack(f"<{len(cuts)}I", *(names[i] for i in cuts))
        return segments, pages

    def finish(self, kind: int, root: Ref) -> Path:
        for generation in (1, 2):
            block = struct.pack(
                "<8sHHBBBBQQ",
                b"HFCHAIN1",
                1,
                1,
                kind,
                self.encrypted,
                18,
                2,
                generation,
                len(self.out),
            )
            block += self.chain_id + self.file_id + self.key_id
            block += struct.pack("<QII16s", root[0], root[1], 0, root[2])
            salt = self.salt if self.encrypted else bytes(16)
            block += salt + struct.pack("<III", 64, 1, 1) + self.nonce + self.wrapped
            block += bytes(4060 - len(block))
            block += struct.pack("<I", zlib.crc32(block))
            seal_key = hkdf(self.key, self.file_id, b"holdfast seal")
            block += reference.blake3(block, key=seal_key).digest()
            at = generation % 2 * 4096
            self.out[at : at + 4096] = block
        path = self.folder / f"{self.number:08}-{('full', 'increment')[kind - 1]}.hfc"
        path.write_bytes(self.out + b"left over")
        return path


def padded(entries: list[bytes]) -> bytes:
    return b"".join(entries).ljust(1024 * len(entries[0]), b"\0") if entries else bytes(16384)


def piece_pages(places: dict[int, int]) -> dict[int, bytes]:
    """Runs of one piece each, and of two where two neighbours lie side by side."""
    pages: dict[int, bytes] = {}
    for number in {piece // 65536 for piece in places}:
        runs: list[list[int]] = []
        piece_end = place_end = 0
        for piece, place in sorted((p % 65536, v) for p, v in places.items() if p // 65536 == number):
            if runs and runs[-1][1] == 0 and (piece, place) == (piece_end, place_end):
                runs[-1][1] = 1
            else:
                runs.append([piece - piece_end, 0, (place - place_end) % 2**32])
            piece_end, place_end = piece + 1, place + 1
        columns = [[run[k] for run in runs] for k in range(3)]
        body = struct.pack(f"<I{len(runs)}H", len(runs), *columns[0])
        body += struct.pack(f"<{len(runs)}H{len(runs)}I", *columns[1], *columns[2])
        pages[number] = body
    return pages


def seal_again(chain: TinyChain, path: Path, slot: int, changes: dict[int, bytes]) -> None:
    """Change bytes of a superblock, by offset, and make its checksums right."""
    data = bytearray(path.read_bytes())
    block = data[slot * 4096 : slot * 4096 + 4096]
    for offset, value in changes.items():
        block[offset : offset + len(value)] = value
    struct.pack_into("<I", block, 4060, zlib.crc32(block[:4060]))
    key = chain.key if block[13] else bytes(block[32:48] * 2)
    seal_key = hkdf(key, bytes(block[48:64]), b"holdfast seal")
    block[4064:] = reference.blake3(bytes(block[:4064]), key=seal_key).digest()
    data[slot * 4096 : slot * 4096 + 4096] = block
    path.write_bytes(data)


def change_payload(path: Path, offset: int) -> None:
    """Change a byte of the first record of a plain file and make its checksums right."""
    data = bytearray(path.read_bytes())
    data[8192 + 80 + offset] ^= 1
    stored = int.from_bytes(data[8192 + 12 : 8192 + 16], "little")
    struct.pack_into("<I", data, 8192 + 68, zlib.crc32(data[8192 + 80 : 8192 + 80 + stored]))
    struct.pack_into("<I", data, 8192 + 76, zlib.crc32(data[8192 : 8192 + 76]))
    path.write_bytes(data)
