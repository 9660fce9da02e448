"""Write the worked examples at the end of the format pages: a chain of one piece, byte for byte.

Usage: .venv/bin/python -m scripts.worked_example

Each page keeps everything above its example as it is.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import msgspec

from holdfast.formats.chain_metadata import encode_metadata
from holdfast.formats.contents import Contents, Point, PointDisk, PointMachine
from holdfast.formats.keys import plain_keys
from holdfast.formats.magic import DIGEST_SIZE, PIECE_SIZE, SUPERBLOCK_SIZE, FileKind
from holdfast.formats.pages import Ref
from holdfast.model.compression import Compression
from holdfast.model.machine import PowerState
from holdfast.pipeline.backup import DiskCopy
from holdfast.pipeline.stages import PipeOptions
from holdfast.planning.read_plan import whole_disk_steps
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chain_files.chain_writer import ChainWriter, FileSpec
from holdfast.storage.chains.chain import Chain
from holdfast.storage.chains.metadata import describe
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.intake.disk_intake import DiskIntake
from holdfast.storage.points.point_writer import complete_point, open_disk, with_new_point
from scripts.golden_stories import Content
from scripts.make_golden import NOON, StandingClock

FORMATS = Path(__file__).resolve().parent.parent / "docs" / "formats"
CHAIN_PAGE, METADATA_PAGE = FORMATS / "chain-file.md", FORMATS / "chain-metadata.md"
CHAIN_HEADING, METADATA_HEADING = "## 12. A worked example\n", "## A worked example\n"

FILE_NAME = "00000001-full.hfc"
CHAIN_ID, FILE_ID, POINT_ID = (bytes([digit * 17]) * 16 for digit in (0xA, 0xB, 0xC))
WRITING_KEY_ID, COMPLETING_KEY_ID, METADATA_KEY_ID = (bytes([digit * 17]) * 16 for digit in (0xD, 0xE, 0xF))
PIECE = b"Holdfast" * (PIECE_SIZE // 8)
LINE = 16

CHAIN_EXAMPLE = """\
A chain without cipher, of one machine with one disk of 64 KiB, whose piece is `Holdfast` 8192 times.
The unit size is 256 KiB.
All hexadecimal lines are an offset in the file and the 16 bytes there; lines of zeros are left out.
The file is `{name}`, {size} bytes long.
It has seen four commits; slot 1 and what only the earlier commits need is left out.
So these lines are a whole file by themselves.

### The keys

| Key | Value |
|---|---|
| chain key | `{chain_key}` |
| digest key | `{digest_key}` |
| seal key | `{seal_key}` |

### Superblock slot 0

```hex
{superblock}
```

It is of generation {generation}; the contents page is at {root_offset}, its record {root_length} bytes long.

### The contents page

```hex
{contents}
```

Its body, here with spaces and line ends:

```json
{json}
```

### The map page

```hex
{map}
```

Its body is the digest of segment 0, 63 digests of zeros, and two runs.
One piece was written by point 1, 65535 pieces are zeros.
The segment digest is `{segment}`.
From it follow the disk root `{disk_root}` and the point root `{point_root}`.

### The piece table page

```hex
{pieces}
```

Its body is one run: gap 0, one piece, jump 0; so piece 0 is at place 0, which is unit 0, slot 0.

### The units page

```hex
{units}
```

Its body begins with the entry of unit 0: offset {unit_offset}, record length {unit_length}, point 1; the rest is zeros.

### The unit

```hex
{unit}
```

Its piece list says: disk tag `{tag}`, piece 0, digest `{digest}`.
Behind it the body is one Zstandard frame.

### The digests page

```hex
{digests}
```

Its body begins with the digest of place 0, the same as above; the rest is zeros.
"""

METADATA_EXAMPLE = """\
The metadata of the chain in [chain-file.md](chain-file.md) section 12, `chain.hfm`, {size} bytes.
The metadata seal key is `{seal_key}`.

```hex
{metadata}
```
"""


def write_example(folder: Path) -> bytes:
    """Write the chain file of the example into a folder and return the bytes of its metadata file."""
    files, path = HostFiles(), folder / FILE_NAME
    keys = plain_keys(CHAIN_ID)
    point = Point(
        number=1,
        id=POINT_ID.hex(),
        session="session-1",
        machine=PointMachine(machine_id="vm-1", name="web", power=PowerState.ON),
        created=NOON,
        snapshot="snapshot-1",
        disks=(PointDisk(disk=0, key="disk-0", size=PIECE_SIZE),),
    )
    contents = Contents(
        chain=CHAIN_ID.hex(), file=FILE_ID.hex(), kind="full", unit_size=256 << 10, created=NOON, holds=(1, 1)
    )
    spec = FileSpec(kind=FileKind.FULL, unit_size=256 << 10, contents=with_new_point(contents, point))
    with mock.patch.object(os, "urandom", side_effect=[WRITING_KEY_ID, COMPLETING_KEY_ID]):
        with ChainWriter.create(files, path, spec, keys) as writer:
            _write_disk(writer)
        with ChainWriter.resume(files, path) as writer:
            complete_point(writer, 1)
    with Chain.open(files, folder) as chain:
        return encode_metadata(describe(chain, 1), keys, METADATA_KEY_ID)


def _write_disk(writer: ChainWriter) -> None:
    content = Content(PIECE_SIZE, {0: PIECE})
    options = PipeOptions(compression=Compression.ZSTD_1, threads=1)
    steps = whole_disk_steps(content.allocated_spans(), PIECE_SIZE, PIECE_SIZE)
    intake = DiskIntake(open_disk(writer, 1, "disk-0", None), StandingClock(), options)
    DiskCopy(content, intake, StandingClock(), options).run(steps, lambda _: None)


def examples() -> tuple[str, str]:
    """Return the two examples without their headings."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        metadata = write_example(folder)
        data = (folder / FILE_NAME).read_bytes()
        with ChainFile.open(HostFiles(), folder / FILE_NAME) as file:
            chain = CHAIN_EXAMPLE.format(**_values(file, data))
        seal_key = plain_keys(CHAIN_ID).metadata_seal_key.hex()
        lines = "\n".join(hex_lines(metadata, 0, len(metadata)))
        return chain, METADATA_EXAMPLE.format(size=len(metadata), seal_key=seal_key, metadata=lines)


def _values(file: ChainFile, data: bytes) -> dict[str, object]:
    contents, root = file.contents, file.superblock.root
    [point], [file_disk] = contents.points, contents.disks
    [disk] = point.disks
    unit = file.unit(0)
    map_page = file.map_table(1, "disk-0").page(0)
    assert unit is not None
    assert map_page is not None
    entries, _ = file.read_unit(0)
    tables = {
        "map": disk.map, "pieces": file_disk.pieces, "units": contents.units.table, "digests": contents.digests
    }  # fmt: skip
    refs = {name: table.top.ref for name, table in tables.items() if table.top is not None}
    refs |= {"contents": root, "unit": Ref(unit.offset, unit.length, bytes(DIGEST_SIZE))}
    shown = {name: "\n".join(hex_lines(data, ref.offset, ref.length)) for name, ref in refs.items()}
    return shown | {
        "name": file.path.name,
        "size": len(data),
        "chain_key": (CHAIN_ID * 2).hex(),
        "digest_key": file.keys.digest_key.hex(),
        "seal_key": file.keys.seal_key(FILE_ID).hex(),
        "generation": file.superblock.generation,
        "root_offset": root.offset,
        "root_length": root.length,
        "superblock": "\n".join(hex_lines(data, 0, SUPERBLOCK_SIZE)),
        "json": msgspec.json.format(msgspec.json.encode(contents), indent=2).decode(),
        "segment": map_page.segment(0).hex(),
        "disk_root": disk.root,
        "point_root": point.root,
        "unit_offset": unit.offset,
        "unit_length": unit.length,
        "tag": entries[0].disk_tag.hex(),
        "digest": entries[0].digest.hex(),
    }


def hex_lines(data: bytes, start: int, length: int) -> Iterator[str]:
    """Yield the lines of a part that are not zeros."""
    for offset in range(start, start + length, LINE):
        line = data[offset : min(offset + LINE, start + length)]
        if any(line):
            yield f"{offset:06x}  {line.hex(' ')}"


def with_example(page: str, heading: str, example: str) -> str:
    """Return a page with its example put in place of the one it has, or at its end."""
    before, _, _ = page.partition(heading)
    return f"{before.rstrip()}\n\n{heading}\n{example}"


def main() -> None:
    """Bring both pages up to date."""
    chain, metadata = examples()
    CHAIN_PAGE.write_text(with_example(CHAIN_PAGE.read_text(), CHAIN_HEADING, chain))
    METADATA_PAGE.write_text(with_example(METADATA_PAGE.read_text(), METADATA_HEADING, metadata))


if __name__ == "__main__":
    main()
