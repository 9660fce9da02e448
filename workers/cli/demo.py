"""``holdfast demo``: the product's promise shown on this computer."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer
from rich.table import Table

from workers.cli import wording
from workers.cli.commands import RUN, command
from workers.cli.invocation import Invocation
from workers.cli.tables import plain_table
from workers.demo.crew import ROLES, Command, Crew
from workers.demo.disks import SCALES, DemoScale, make_disks
from workers.demo.hypervisors import LOCAL, VSPHERE, DemoHypervisor, LabHypervisor, LocalHypervisor, lab_problem
from workers.demo.place import REPOSITORY, DemoPlace, prepare_place, write_configuration
from workers.demo.story import Act, DemoMachines, Story
from workers.devserver import DevServer


def register(app: typer.Typer) -> None:
    """Add the command."""
    examples = (
        ("demo", "run it in a temporary folder and clean up"),
        ("demo --folder ./try --keep", "keep servers, repository and machines, to look around in"),
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
    on: Annotated[
        Literal["vsphere", "local"] | None,
        typer.Option("--on", help="Where the machines live; without it a lab vCenter, where one can be built."),
    ] = None,
) -> None:
    """Protect two machines, kill the proxy and the Temporal server in the middle, restore, and compare every byte.

    Everything is real: file systems in disk images, a Temporal server with its web pages, worker processes.
    """
    scale = SCALES["small" if small else "normal"]
    if folder is not None:
        _play(run, _Wishes(root=folder.absolute(), scale=scale, on=on, keep=keep))
        return
    if keep:
        _play(run, _Wishes(root=Path(tempfile.mkdtemp(prefix="holdfast-demo-")), scale=scale, on=on, keep=True))
        return
    with tempfile.TemporaryDirectory(prefix="holdfast-demo-") as temporary:
        _play(run, _Wishes(root=Path(temporary), scale=scale, on=on, keep=False))


class _Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says."""

    root: Path
    scale: DemoScale
    on: str | None
    keep: bool


def _play(run: Invocation, wishes: _Wishes) -> None:
    started_s = run.clock.monotonic_s()
    place = prepare_place(wishes.root)
    run.say(f"working in {wishes.root}")
    server = DevServer(place.home / "temporal")
    with ExitStack() as stack:
        machines = _machines(run, place, wishes, stack)
        if not wishes.keep:
            stack.callback(server.stop)
        run.say("2/7 starting the Temporal server and three workers")
        address = server.start()
        write_configuration(place, address.grpc, address.namespace, machines.hypervisor.table)
        Command(place, "repository", "create", REPOSITORY).result()
        with Crew(place, run.clock) as crew:
            for role in ROLES:
                crew.start(role)
            run.say(f"  web pages: {address.ui}/namespaces/{address.namespace}/workflows")
            story = Story(place, machines, server, crew, run.clock)
            _act_out(run, story)
        _show(run, story.acts, run.clock.monotonic_s() - started_s)
        if wishes.keep:
            run.say(f"kept: {wishes.root}; web pages at {address.ui}; stop the server with")
            run.say(f"  holdfast dev stop --config {place.config}")


def _machines(run: Invocation, place: DemoPlace, wishes: _Wishes, stack: ExitStack) -> DemoMachines:
    """Make the disks, and a hypervisor with the machines that have them."""
    hypervisor = _hypervisor(run, place, wishes.on)
    if not wishes.keep:
        stack.callback(hypervisor.close)
    run.say("1/7 making two machines with three disks")
    run.say(f"  in {hypervisor.describes}")
    disks = make_disks(place.disks, wishes.scale)
    for disk in disks:
        size = wording.size(disk.size_bytes)
        run.say(f"  {disk.machine}/{disk.label}: {size}, {disk.file_system}, {disk.describes}")
    return DemoMachines(hypervisor=hypervisor, disks=hypervisor.adopt(disks), scale=wishes.scale)


def _hypervisor(run: Invocation, place: DemoPlace, on: str | None) -> DemoHypervisor:
    """Return the hypervisor that was asked for; without a wish a lab vCenter, or else the local one, said aloud."""
    if on == LOCAL:
        return LocalHypervisor(place, run.clock)
    run.say("building the lab vCenter, if it is not built yet")
    problem = lab_problem()
    if problem is None:
        return LabHypervisor(place, run.clock)
    if on == VSPHERE:
        raise problem
    run.warn(f"no lab vCenter, so the local provider is used: {problem.message}")
    return LocalHypervisor(place, run.clock)


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
