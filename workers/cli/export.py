"""``holdfast export``: a disk of a restore point as a file for another hypervisor, from the repository alone."""

from pathlib import Path
from typing import Annotated

import typer

from holdfast.errors import DiskNotFound, RequestInvalid
from workers.cli import wording
from workers.cli.chain_choice import CredentialOption, RepositoryOption
from workers.cli.commands import PROTECT, command
from workers.cli.invocation import Invocation
from workers.cli.pace import Pace
from workers.cli.reading import ListedPoint, find_listed, open_chain, passphrases_for, read_points
from workers.disk_export import DiskExport, ExportFormat, ExportReport, format_of


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "export",
        panel=PROTECT,
        examples=(
            ("export latest --machine web01 --to web01.qcow2", "the disk of the newest point for QEMU and KVM"),
            ("export 1f2e3d --disk disk-1 --to data.vmdk --verify", "one of several disks, read back before it counts"),
            ("export 1f2e3d --to /mnt/out/web01.img", "as it is, sparse"),
        ),
    )(export)


def export(
    run: Invocation,
    point: Annotated[str, typer.Argument(metavar="POINT", help="First digits of a point's id, or `latest`.")],
    *,
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="The file to be made; nothing is overwritten.")],
    disk: Annotated[
        str | None, typer.Option("--disk", metavar="KEY", help="Disk; needed when the machine has several.")
    ] = None,
    how: Annotated[
        ExportFormat | None,
        typer.Option("--format", help="Default: what the end of the file's name says, .vmdk, .qcow2, .raw or .img."),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read the file back and compare it before it counts.")
    ] = False,
    machine: Annotated[str | None, typer.Option("--machine", "-m", metavar="NAME", help="Id or name.")] = None,
    repository: RepositoryOption = None,
    credential: CredentialOption = None,
) -> None:
    """Write a disk of a restore point into a file: raw, qcow2, or VMDK as vSphere imports it (streamOptimized).

    Every piece is compared with its digest before it is written. The file appears under its name when it is whole and
    durable; a stopped export leaves nothing behind. Raw files are sparse; for the other formats `qemu-img` is needed,
    and room for the raw file beside the other one while it works.
    """
    chosen_format = how or format_of(to)
    if chosen_format is None:
        hint = "Add `--format raw`, `--format qcow2` or `--format vmdk`."
        raise RequestInvalid(f"the name of {to} does not say in which format it is to be", hint=hint)
    exporting = DiskExport(chosen_format, run.clock, verifies=verify)
    settings = run.repository_settings(repository)
    listed, unreadable = read_points(run, settings, credential, machine)
    for broken in unreadable:
        run.warn(f"chain {broken.chain} of {broken.repository}: {broken.error.message}")
    chosen = find_listed(listed, point, unreadable, machine)
    key = _chosen_disk(chosen, disk)
    if chosen.doubt:
        run.warn(f"point {chosen.reference} may lack changes: {chosen.doubt}")
    paces: dict[str, Pace] = {}

    def report(what: str, done: int, of: int) -> None:
        paces.setdefault(what, Pace(run, f"{what} {to.name}"))(done, of)

    with open_chain(run.repository(settings), chosen.chain, passphrases_for(run, settings, credential)) as chain:
        made = exporting.run(chain.disk(chosen.point.number, key), to, report)
    run.show({"point": chosen.point.id, "disk": key} | _described(made), _words(chosen, key, made))


def _chosen_disk(listed: ListedPoint, key: str | None) -> str:
    """Return the key of the disk that is meant. Raises `RequestInvalid`, `DiskNotFound`."""
    keys = [disk.key for disk in listed.point.disks]
    if key is not None and key not in keys:
        raise DiskNotFound(f"point {listed.reference} has no disk {key}", hint=f"It has {', '.join(keys) or 'none'}.")
    if key is not None:
        return key
    if len(keys) != 1:
        held = f"{wording.count(len(keys), 'disk')}: {', '.join(keys)}"
        raise RequestInvalid(f"point {listed.reference} has {held}", hint="Choose one with `--disk KEY`.")
    return keys[0]


def _described(made: ExportReport) -> dict[str, object]:
    return {
        "file": made.file,
        "format": made.format,
        "size_bytes": made.size_bytes,
        "data_bytes": made.data_bytes,
        "file_bytes": made.file_bytes,
        "verified": made.is_verified,
    }


def _words(listed: ListedPoint, key: str, made: ExportReport) -> str:
    checked = ", read back and compared" if made.is_verified else ""
    sizes = f"{wording.size(made.size_bytes)} of disk, {wording.size(made.file_bytes)} on the file system"
    return f"disk {key} of point {listed.reference} is in {made.file}: {made.format}, {sizes}{checked}"
