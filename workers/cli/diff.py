"""``holdfast diff``: what differs between two points of a machine, read from the files of the repository alone."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from holdfast.errors import RequestInvalid
from holdfast.model.difference import DiskDifference, VolumeChanges
from holdfast.storage.tools.difference import Comparison
from workers.cli import wording
from workers.cli.chain_choice import CredentialOption, MachineOption, RepositoryOption
from workers.cli.commands import LOOK, command
from workers.cli.invocation import Invocation
from workers.cli.pace import Pace
from workers.cli.reading import ListedPoint, find_listed, open_chain, passphrases_for, read_points
from workers.cli.tables import plain_table

_SPANS_SHOWN = 12
_FILES_SHOWN = 20
_NAMED_DEFAULT = 1000


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "diff",
        panel=LOOK,
        examples=(
            ("diff 1f2e3d 5a6b7c", "what changed between two points, and in which files"),
            ("diff 1f2e3d latest --machine web01 --disk disk-0 --no-files", "the spans of one disk"),
            ("diff 1f2e3d 5a6b7c --json | jq '.disks[].spans'", "the spans as offsets and lengths"),
        ),
    )(diff)


def diff(
    run: Invocation,
    old: Annotated[str, typer.Argument(metavar="A", help="First digits of the id of the older point.")],
    new: Annotated[str, typer.Argument(metavar="B", help="First digits of the id of the newer one, or `latest`.")],
    *,
    machine: MachineOption = None,
    disk: Annotated[str | None, typer.Option("--disk", metavar="KEY", help="This disk alone.")] = None,
    files: Annotated[bool, typer.Option("--files/--no-files", help="Look for the files that changed.")] = True,
    named: Annotated[
        int, typer.Option("--named", min=0, metavar="COUNT", help="How many spans of a disk and files of a volume.")
    ] = _NAMED_DEFAULT,
    repository: RepositoryOption = None,
    credential: CredentialOption = None,
) -> None:
    """Show what differs between two points of a machine: spans of its disks, and the files that lie there.

    Two points of one chain are compared by their maps and digests, without reading a disk; for points of two chains
    the disks of the older one are read. Spans are whole pieces of 64 KiB. Files are named where the file system is
    known: ext, XFS and NTFS, also in partitions and logical volumes.
    """
    settings = run.repository_settings(repository)
    passphrases = passphrases_for(run, settings, credential)
    listed, unreadable = read_points(run, settings, credential, machine)
    for broken in unreadable:
        run.warn(f"chain {broken.chain} of {broken.repository}: {broken.error.message}")
    chosen = (find_listed(listed, old, unreadable, machine), find_listed(listed, new, unreadable, machine))
    _check_machines(chosen)
    opened = run.repository(settings)
    with ExitStack() as stack:
        chains = {
            name: stack.enter_context(open_chain(opened, name, passphrases))
            for name in {point.chain for point in chosen}
        }
        sides = [(chains[point.chain], point.point.number) for point in chosen]
        compared = Comparison(sides[0], sides[1], spans_max=named, files_max=named if files else None)
        keys = compared.keys() if disk is None else [disk]
        found = [compared.disk(key, Pace(run, f"comparing {key}")) for key in keys]
    document = {
        "machine": {"id": chosen[0].point.machine.machine_id, "name": chosen[0].point.machine.name},
        "old": _described(chosen[0]),
        "new": _described(chosen[1]),
        "changed_bytes": sum(difference.changed_bytes for difference in found),
        "disks": found,
    }
    run.show(document, *_pages(chosen, found, with_files=files))


def _check_machines(chosen: tuple[ListedPoint, ListedPoint]) -> None:
    names = [point.point.machine.machine_id for point in chosen]
    if names[0] != names[1]:
        raise RequestInvalid(f"the points are of two machines, {names[0]} and {names[1]}")


def _described(listed: ListedPoint) -> dict[str, object]:
    return {
        "id": listed.point.id,
        "chain": listed.chain,
        "number": listed.point.number,
        "created": listed.point.created,
    }


def _pages(
    chosen: tuple[ListedPoint, ListedPoint], found: Sequence[DiskDifference], *, with_files: bool
) -> list[RenderableType]:
    old, new = chosen
    total = wording.size(sum(difference.changed_bytes for difference in found))
    sides = " and ".join(f"{side.reference} of {wording.moment(side.point.created)}" for side in (old, new))
    head = f": {total} differ between the points {sides}"
    parts: list[RenderableType] = [Text.assemble((old.point.machine.name, "bold"), head)]
    for difference in found:
        parts += ["", *_disk(difference, with_files=with_files)]
    return parts


def _disk(found: DiskDifference, *, with_files: bool) -> list[RenderableType]:
    name = (found.key, "bold")
    if found.old_size_bytes is None or found.new_size_bytes is None:
        which = "newer" if found.old_size_bytes is None else "older"
        return [Text.assemble(name, f": only the {which} point has it, with {wording.size(_size_of(found))}")]
    count = len(found.spans) + found.unnamed_spans
    head = f": {wording.size(found.changed_bytes)} of {wording.size(_size_of(found))}"
    told = f" in {wording.count(count, 'span')}, told by {found.compared_by}"
    parts: list[RenderableType] = [Text.assemble(name, head, told)]
    if found.old_size_bytes != found.new_size_bytes:
        parts.append(f"  its size was {wording.size(found.old_size_bytes)} and is {wording.size(found.new_size_bytes)}")
    parts += _spans(found)
    if with_files and found.reason:
        parts.append(f"  no files are named: {found.reason}")
    sides = [(volume, "newer") for volume in found.new_volumes] + [(volume, "older") for volume in found.old_volumes]
    return [*parts, *(part for volume, which in sides for part in _volume(volume, which))]


def _spans(found: DiskDifference) -> list[RenderableType]:
    if not found.spans:
        return []
    table = plain_table("  ", ">OFFSET", ">LENGTH")
    for span in found.spans[:_SPANS_SHOWN]:
        table.add_row("", str(span.start), wording.size(span.length))
    left = len(found.spans) + found.unnamed_spans - _SPANS_SHOWN
    more = Text(f"  and {wording.count(left, 'further span')}; `--json` names them", "dim")
    return [table, more] if left > 0 else [table]


def _volume(volume: VolumeChanges, which: str) -> list[RenderableType]:
    kind = f", {volume.kind}" if volume.kind else ""
    rest = wording.size(volume.changed_bytes - volume.files_bytes)
    words = f"{wording.size(volume.files_bytes)} in files, {rest} in metadata, shared or free blocks"
    parts: list[RenderableType] = [f"  {volume.place}{kind}, at the {which} point: {words}"]
    if volume.reason:
        parts.append(Text.assemble("  ", ("not sure", "yellow"), f": {volume.reason}"))
    if volume.files:
        parts.append(_files(volume))
    left = len(volume.files) + volume.unnamed_files - _FILES_SHOWN
    if left > 0:
        parts.append(Text(f"  and {wording.count(left, 'further file')}", "dim"))
    return parts


def _files(volume: VolumeChanges) -> Table:
    table = plain_table("    ", ">CHANGED", "FILE")
    for file in volume.files[:_FILES_SHOWN]:
        table.add_row("", wording.size(file.changed_bytes), file.path)
    return table


def _size_of(found: DiskDifference) -> int:
    return max(found.old_size_bytes or 0, found.new_size_bytes or 0)
