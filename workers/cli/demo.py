"""``holdfast demo``: the product's promise shown on this computer."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from workers.cli import wording
from workers.cli.commands import RUN, command
from workers.cli.invocation import Invocation
from workers.cli.tables import plain_table
from workers.demo.crew import ROLES, Command, Crew
from workers.demo.disks import SCALES, DemoScale, make_disks
from workers.demo.place import REPOSITORY, prepare_place, register_machines, write_configuration
from workers.demo.story import Act, DemoMachines, Story
from workers.devserver import DevServer


def register(app: typer.Typer) -> None:
    """Add the command."""
    examples = (
        ("demo", "run it in a temporary folder and clean up"),
        ("demo --folder ./try --keep", "keep server, repository and machines, to look around in"),
    )
    command(app, "demo", panel=RUN, examples=examples)(demo)


def demo(
    run: Invocation,
    *,
    folder: Annotated[
        Path | None, typer.Option("--folder", metavar="FOLDER", help="New folder to work in; needs about 4 GiB.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the folder and the Temporal server when done.")] = False,
    small: Annotated[bool, typer.Option("--small", help="Use a quarter of the data.")] = False,
) -> None:
    """Protect two machines, kill the proxy and the Temporal server in the middle, restore, and compare every byte.

    Everything is real: file systems in disk images, a Temporal server with its web pages, worker processes.
    """
    scale = SCALES["small" if small else "normal"]
    if folder is not None:
        _play(run, folder.absolute(), scale, keep=keep)
        return
    if keep:
        _play(run, Path(tempfile.mkdtemp(prefix="holdfast-demo-")), scale, keep=True)
        return
    with tempfile.TemporaryDirectory(prefix="holdfast-demo-") as temporary:
        _play(run, Path(temporary), scale, keep=False)


def _play(run: Invocation, root: Path, scale: DemoScale, *, keep: bool) -> None:
    started_s = run.clock.monotonic_s()
    place = prepare_place(root)
    run.say(f"working in {root}")
    run.say("1/7 making two machines with three disks")
    disks = make_disks(place.disks, scale)
    register_machines(place, disks, run.clock)
    for disk in disks:
        size = wording.size(disk.size_bytes)
        run.say(f"  {disk.machine}/{disk.key}: {size}, {disk.file_system}, {disk.describes}")
    server = DevServer(place.home / "temporal")
    try:
        run.say("2/7 starting the Temporal server and three workers")
        address = server.start()
        write_configuration(place, address.grpc, address.namespace)
        Command(place, "repository", "create", REPOSITORY).result()
        with Crew(place, run.clock) as crew:
            for role in ROLES:
                crew.start(role)
            run.say(f"  web pages: {address.ui}/namespaces/{address.namespace}/workflows")
            story = Story(place, DemoMachines(disks=disks, scale=scale), server, crew, run.clock)
            _act_out(run, story)
        seconds = run.clock.monotonic_s() - started_s
        _show(run, story.acts, seconds)
        if keep:
            run.say(f"kept: {root}; web pages at {address.ui}; stop the server with")
            run.say(f"  holdfast dev stop --config {place.config}")
    finally:
        if not keep:
            server.stop()


def _act_out(run: Invocation, story: Story) -> None:
    run.say("3/7 full backup")
    story.full_backup()
    run.say("4/7 changing files in the guests; increment; killing the proxy in the middle of a disk")
    story.backup_with_killed_proxy()
    run.say("5/7 changing files again; increment; killing the Temporal server in the middle")
    story.backup_with_killed_server()
    run.say("6/7 verifying every stored byte")
    story.verify()
    run.say("7/7 restoring everything to new machines")
    story.restore(run.say)


def _show(run: Invocation, acts: list[Act], seconds: float) -> None:
    run.show({"acts": acts, "seconds": round(seconds, 1)}, _table(acts))
    run.say(f"everything restored is identical to its original; {seconds:.0f} s in all")


def _table(acts: list[Act]) -> Table:
    table = plain_table("step", "read", "stored", "time", "shown")
    for act in acts:
        table.add_row(
            act.what,
            wording.size(act.read_bytes),
            wording.size(act.stored_bytes) if act.stored_bytes else "",
            f"{act.seconds:.1f} s",
            act.shown,
        )
    return table
