"""``holdfast machines``, ``machine`` and ``provider``: what there is to protect."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from holdfast.errors import HoldfastError, RequestInvalid
from holdfast.model.ids import DiskKey, MachineId
from holdfast.model.machine import Machine, PowerState
from holdfast.model.selection import SelectorKind, parse_selector
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.providers.ports import Provider
from workers.cli import provider_sweep, wording
from workers.cli.commands import LOOK, RUN, command, family
from workers.cli.failure import CommandFailed
from workers.cli.invocation import Invocation, error_document
from workers.cli.tables import plain_table
from workers.provider_settings import ProviderSettings

ProviderOption = Annotated[
    str | None, typer.Option("--provider", "-p", metavar="NAME", help="Provider; needed when there are several.")
]

InOption = Annotated[
    list[str] | None,
    typer.Option(
        "--in",
        metavar="REFERENCE",
        help="Only what this means: an id, a name, or a group such as folder:/prod; may be repeated.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(
        app,
        "machines",
        panel=LOOK,
        examples=(
            ("machines", "every machine of every provider"),
            ("machines --provider vcenter --in folder:/prod --in tag:tier/gold", "what a job of these would protect"),
        ),
    )(machines)
    machine = family(app, "machine", panel=RUN, help_line="Machines of a local provider.")
    command(
        machine,
        "add",
        examples=(
            ("machine add web --disk boot=/srv/vm/web.raw", "register a machine with one disk, used in place"),
            ("machine add db --disk a.raw --disk b.raw --copy", "two disks, copied into the provider's folder"),
        ),
    )(add)
    command(machine, "power", examples=(("machine power web off", "switch it off, as a restore over it needs"),))(power)
    command(
        machine,
        "reset-tracking",
        examples=(("machine reset-tracking web", "begin its change tracking anew: the next run reads everything"),),
    )(reset_tracking)
    provider = family(app, "provider", panel=RUN, help_line="Providers: the hypervisors with the machines.")
    command(provider, "create", examples=(("provider create lab", "make the folder of a local provider"),))(create)
    provider_sweep.register(provider)


def machines(run: Invocation, *, references: InOption = None, provider: ProviderOption = None) -> None:
    """List the machines of the providers, with their disks.

    Disks that cannot be protected are named below.
    """
    shown = _Listing(is_kept=run.flags.json)
    problems: list[HoldfastError] = []
    for settings in _chosen(run, provider, is_one=bool(references)):
        try:
            for machine in _wanted(run.provider(settings), references or []):
                shown.add(settings.name, machine)
        except HoldfastError as error:
            run.warn(f"provider {settings.name}: {error.message}")
            problems.append(error)
    document: dict[str, object] = {"machines": shown.kept}
    if not run.flags.json:
        empty = "no machines there" if references else "no machines; register one with `holdfast machine add`"
        run.show(None, shown.table if shown.table.rows or problems else empty)
        for note in shown.notes:
            run.warn(note)
    if problems:
        raise CommandFailed(problems[0], document | error_document(problems[0]))
    if run.flags.json:
        run.show(document)


def _chosen(run: Invocation, provider: str | None, *, is_one: bool) -> list[ProviderSettings]:
    """Return the providers to list; groups have a meaning at one only."""
    if provider or is_one or not run.settings.providers:
        return [run.provider_settings(provider)]
    return list(run.settings.providers)


def _wanted(provider: Provider, references: list[str]) -> Iterator[Machine]:
    """Yield the machines that are meant, each once; without references all."""
    if not references:
        yield from provider.machines()
    seen: set[MachineId] = set()
    for selector in map(parse_selector, references):
        is_one = selector.kind is SelectorKind.MACHINE
        for machine in [provider.machine(selector.value)] if is_one else provider.members(selector):
            if machine.machine_id not in seen:
                seen.add(machine.machine_id)
                yield machine


class _Listing:
    """Machines as they are shown: only their rows are held, and with ``is_kept`` themselves for a document."""

    def __init__(self, *, is_kept: bool) -> None:
        self._is_kept = is_kept
        self.kept: list[dict[str, object]] = []
        self.notes: list[str] = []
        self.table = plain_table("MACHINE", "POWER", ">SIZE", "DISKS", "PROVIDER", "=ID")

    def add(self, provider: str, machine: Machine) -> None:
        if self._is_kept:
            self.kept.append({"provider": provider, "machine": machine})
            return
        self.table.add_row(
            Text(machine.name, "bold"),
            machine.power.value,
            wording.size(sum(disk.size_bytes for disk in machine.disks)),
            ", ".join(f"{disk.key} {wording.size(disk.size_bytes)}" for disk in machine.disks),
            provider,
            machine.machine_id,
        )
        for disk in machine.skipped:
            self.notes.append(f"{machine.name}: disk {disk.label} is not protected: {disk.reason}")


def add(
    run: Invocation,
    name: Annotated[str, typer.Argument(help="Name of the new machine.")],
    *,
    disk: Annotated[
        list[str], typer.Option("--disk", metavar="[KEY=]FILE", help="Raw disk file or block device; may be repeated.")
    ],
    copy: Annotated[bool, typer.Option("--copy", help="Copy the disks instead of using them in place.")] = False,
    on: Annotated[bool, typer.Option("--on", help="Mark the machine as running.")] = False,
    provider: ProviderOption = None,
) -> None:
    """Register existing raw disks as a machine of a local provider.

    Without a key the disks are called disk-0, disk-1 and so on.
    """
    settings = run.local_provider_settings(provider)
    state = PowerState.ON if on else PowerState.OFF
    machine = run.local_provider(settings.name).add_machine(name, _disks(disk), state, copy=copy)
    run.show(
        {"provider": settings.name, "machine": machine},
        f"registered {machine.name} ({machine.machine_id}) with {wording.count(len(machine.disks), 'disk')}",
    )


def power(
    run: Invocation,
    machine: Annotated[str, typer.Argument(help="Id or name.")],
    state: Annotated[PowerState, typer.Argument(help="Whether it shall run.")],
    *,
    provider: ProviderOption = None,
) -> None:
    """Switch a machine on or off; a machine of a local provider is marked as running or not."""
    hypervisor = run.provider(run.provider_settings(provider))
    found = hypervisor.machine(machine)
    hypervisor.set_power(found.machine_id, state)
    run.show({"machine": hypervisor.machine(found.machine_id)}, f"{found.name} is {state.value}")


def reset_tracking(
    run: Invocation,
    machine: Annotated[str, typer.Argument(help="Id or name.")],
    *,
    provider: ProviderOption = None,
) -> None:
    """Begin the change tracking of a machine anew.

    The next run of every job with the machine reads its disks in full and compares them; it still stores an increment.
    """
    hypervisor = run.provider(run.provider_settings(provider))
    found = hypervisor.machine(machine)
    hypervisor.reset_tracking(found.machine_id)
    run.show({"machine": found}, f"the change tracking of {found.name} begins anew")


def create(run: Invocation, name: Annotated[str, typer.Argument(help="Provider of the configuration.")]) -> None:
    """Make the folder of a local provider; nothing happens when it is there already."""
    settings = run.local_provider_settings(name)
    LocalProvider.create(settings.path, run.clock, change_tracking=settings.change_tracking)
    run.show({"provider": name, "path": settings.path}, f"provider {name} is in {settings.path}")


def _disks(given: list[str]) -> dict[DiskKey, Path]:
    disks: dict[DiskKey, Path] = {}
    for index, text in enumerate(given):
        key, equals, path = text.partition("=")
        if not equals or "/" in key:
            key, path = f"disk-{index}", text
        if DiskKey(key) in disks:
            raise RequestInvalid(f"two disks have the key {key!r}")
        disks[DiskKey(key)] = Path(path)
    return disks
