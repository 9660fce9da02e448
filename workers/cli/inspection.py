"""``holdfast inspect``: how one chain file is built."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from holdfast.errors import FileDamaged, PassphraseWrong, RequestInvalid
from holdfast.formats.contents import Contents
from holdfast.model.ids import CredentialName
from holdfast.storage.chain_files.inspector import (
    FileReport,
    ScanReport,
    SlotReport,
    TableReport,
    hex_lines,
    inspect_file,
)
from workers.cli import wording
from workers.cli.commands import LOOK, command
from workers.cli.failure import CommandFailed
from workers.cli.invocation import Invocation, error_document
from workers.cli.tables import facts_table, plain_table

_HEX_LENGTH = 256


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "inspect",
        panel=LOOK,
        examples=(
            ("inspect 00000001-full.hfc", "superblocks, contents and tables"),
            ("inspect 00000001-full.hfc --records 20", "and the first records, found by a scan"),
            ("inspect 00000001-full.hfc --hex 4096", "the bytes of the second superblock"),
        ),
    )(inspect)


def inspect(
    run: Invocation,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A chain file (*.hfc).")],
    *,
    records: Annotated[
        int | None, typer.Option("--records", min=0, metavar="COUNT", help="Scan for records and list so many.")
    ] = None,
    hex_from: Annotated[
        int | None, typer.Option("--hex", min=0, metavar="OFFSET", help="Show bytes from here instead.")
    ] = None,
    length: Annotated[int, typer.Option("--length", min=1, help="How many bytes `--hex` shows.")] = _HEX_LENGTH,
    credential: Annotated[
        str | None, typer.Option("--credential", metavar="NAME", help="Passphrase of an encrypted file.")
    ] = None,
) -> None:
    """Show how a chain file is built, and what of it is damaged.

    Without the passphrase of an encrypted file its superblocks and record headers can be seen, nothing else.
    """
    if not file.is_file():
        raise RequestInvalid(f"{file} is not a file")
    if hex_from is not None:
        lines = list(hex_lines(run.files, file, hex_from, length))
        run.show({"file": file, "offset": hex_from, "lines": lines}, *lines)
        return
    passphrase = run.settings.credentials.passphrase(CredentialName(credential)) if credential else None
    report = inspect_file(run.files, file, passphrase, records_listed=records)
    document: dict[str, object] = {"report": report, "is_sound": report.is_sound}
    if report.is_sound or (report.is_locked and passphrase is None):
        run.show(document, *_page(report))
        return
    if not run.flags.json:
        run.show(None, *_page(report))
    if report.is_locked:
        raise CommandFailed(_wrong_passphrase(file), document | error_document(_wrong_passphrase(file)))
    error = FileDamaged(f"{file} is not sound: {_first_problem(report)}")
    raise CommandFailed(error, document | error_document(error))


def _wrong_passphrase(file: Path) -> PassphraseWrong:
    return PassphraseWrong(f"the passphrase does not open {file}")


def _first_problem(report: FileReport) -> str:
    found = [report.problem] if report.problem else []
    found += [f"superblock {slot.slot}: {slot.problem}" for slot in report.slots if slot.problem]
    found += [f"{table.name}: {problem}" for table in report.tables for problem in table.problems]
    if report.scan is not None and report.scan.unreadable_headers:
        found.append(wording.count(report.scan.unreadable_headers, "damaged record header"))
    return found[0]


def _page(report: FileReport) -> list[RenderableType]:
    parts: list[RenderableType] = [
        Text.assemble((report.path, "bold"), f"  {wording.size(report.size_bytes)}"),
        "",
        _slots(report),
    ]
    if report.contents is not None:
        parts += ["", *_contents(report.contents), "", _tables(report.tables)]
        parts.append(f"{wording.count(report.units, 'unit')}, {wording.size(report.unit_bytes)}")
    problems = [f"{table.name}: {problem}" for table in report.tables for problem in table.problems]
    problems += [report.problem] if report.problem else []
    parts += [Text.assemble(("problem", "red"), f": {problem}") for problem in problems]
    if report.scan is not None:
        parts += ["", *_scan(report.scan)]
    return parts


def _slots(report: FileReport) -> Table:
    table = facts_table(values=2)
    table.add_row("superblock", *(_slot_title(slot, report.newest_slot) for slot in report.slots))
    for label, texts in (
        ("generation", [str(slot.generation) for slot in report.slots]),
        ("state", [slot.state for slot in report.slots]),
        ("kind", [slot.kind for slot in report.slots]),
        ("cipher", [slot.cipher for slot in report.slots]),
        ("unit size", [wording.size(slot.unit_size) for slot in report.slots]),
        ("end", [str(slot.end) for slot in report.slots]),
        ("contents page", [f"{slot.root_offset} + {slot.root_length}" for slot in report.slots]),
        ("chain", [slot.chain_id for slot in report.slots]),
        ("file", [slot.file_id for slot in report.slots]),
    ):
        table.add_row(label, *texts)
    return table


def _slot_title(slot: SlotReport, newest: int | None) -> Text:
    if slot.problem:
        return Text(f"slot {slot.slot}: {slot.problem}", "red")
    title = f"slot {slot.slot}"
    return Text.assemble(title, ", ", ("the file's state", "green")) if slot.slot == newest else Text(title)


def _contents(contents: Contents) -> list[RenderableType]:
    table = plain_table(">POINT", "=ID", "MACHINE", "=CREATED", "STATE", "DISK", ">SIZE", "=ROOT")
    for point in contents.points:
        state = "complete" if point.complete else "being written"
        for disk in point.disks:
            row = (str(point.number), point.id[:12], point.machine.name, wording.moment(point.created), state)
            table.add_row(*row, disk.key, wording.size(disk.size), (disk.root or "-")[:16])
    first, last = contents.holds
    parent = "none" if contents.parent is None else f"point {contents.parent.point} in file {contents.parent.file}"
    facts = facts_table()
    facts.add_row("created", wording.moment(contents.created))
    facts.add_row("holds", f"what points {first} to {last} wrote")
    facts.add_row("continues", parent)
    return [facts, "", table]


def _tables(tables: Sequence[TableReport]) -> Table:
    shown = plain_table("TABLE", ">DEPTH", ">PAGES", ">DIRECTORIES", ">STORED", ">ENTRIES", ">PROBLEMS")
    for table in tables:
        shown.add_row(
            table.name,
            str(table.depth),
            str(table.pages),
            str(table.directories),
            wording.size(table.stored_bytes),
            str(table.entries),
            str(len(table.problems) + table.unnamed_problems),
        )
    return shown


def _scan(scan: ScanReport) -> list[RenderableType]:
    kinds = ", ".join(f"{count} x {kind}" for kind, count in sorted(scan.by_kind.items())) or "none"
    ill = f"{scan.unreadable_headers} with a damaged header, {scan.behind_end} behind the end"
    parts: list[RenderableType] = [f"records: {kinds}; {wording.size(scan.stored_bytes)}, {ill}"]
    if not scan.listed:
        return parts
    table = plain_table(">OFFSET", ">LENGTH", "KIND", ">PIECES", ">RAW", ">POINT", ">COMMIT", ">NUMBER")
    for record in scan.listed:
        numbers = (record.pieces, record.raw, record.point, record.generation, record.number)
        table.add_row(str(record.offset), str(record.length), record.kind, *map(str, numbers))
    return [*parts, table]
