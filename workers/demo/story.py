"""The demonstration's acts, one function each, and what they showed."""

from collections.abc import Callable
from typing import Any

import msgspec

from holdfast.clock import Clock
from holdfast.errors import RestoredBytesDiffer, SessionFailed
from workers.demo.crew import Command, Crew, chain_files, wait_until_written
from workers.demo.disks import DemoDisk, DemoScale, change_disks, problems_of, sha256_of
from workers.demo.hypervisors import DemoHypervisor
from workers.demo.place import JOB, DemoPlace
from workers.devserver import DevServer

RESENT_MAX = 64 << 20
Tell = Callable[[str], None]


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the demonstration's table."""

    what: str
    read_bytes: int = 0
    stored_bytes: int = 0
    seconds: float = 0.0
    shown: str


class DemoMachines(msgspec.Struct, frozen=True, kw_only=True):
    """The machines' hypervisor and disks, and how large everything is."""

    hypervisor: DemoHypervisor
    disks: list[DemoDisk]
    scale: DemoScale


class Story:
    """The demonstration over a running server and crew."""

    def __init__(self, place: DemoPlace, machines: DemoMachines, server: DevServer, crew: Crew, clock: Clock) -> None:
        self._place = place
        self._hypervisor = machines.hypervisor
        self._disks = machines.disks
        self._scale = machines.scale
        self._server = server
        self._crew = crew
        self._clock = clock
        self.acts: list[Act] = []

    def full_backup(self) -> None:
        """Back up both machines for the first time."""
        self._backup("full backup of 2 machines", lambda _: "3 disks, encrypted, every unit decoded and compared")

    def backup_with_killed_proxy(self) -> None:
        """Change files in the guests, back up, and kill the proxy in the middle of a disk."""
        written = change_disks(self._disks, 1, self._scale)

        def kill(command: Command) -> str:
            self._wait_mid_disk(command)
            pid = self._crew.kill("proxy")
            self._crew.start("proxy")
            return f"proxy {pid} killed mid-disk; {written >> 20} MiB had changed"

        self._backup("increment, proxy killed", kill, is_resumed=True)

    def backup_with_killed_server(self) -> None:
        """Change files again, back up, and kill the Temporal server in the middle."""
        change_disks(self._disks, 2, self._scale)

        def kill(command: Command) -> str:
            self._wait_mid_disk(command)
            self._server.kill()
            self._server.start()
            return "Temporal server killed and started again; the session went on"

        self._backup("increment, server killed", kill)

    def verify(self) -> None:
        """Read every stored byte of every point."""
        started_s = self._clock.monotonic_s()
        found = Command(self._place, "verify", "--all").result()
        report = found["report"]
        self.acts.append(
            Act(
                what="verify all points",
                read_bytes=report["stored_bytes"],
                seconds=self._clock.monotonic_s() - started_s,
                shown=f"{report['points']} points, {report['units']} units, no damage",
            )
        )

    def restore(self, tell: Tell) -> None:
        """Restore both machines as new ones, compare the bytes and check the file systems."""
        for machine in dict.fromkeys(disk.machine for disk in self._disks):
            started_s = self._clock.monotonic_s()
            name = f"{machine}-restored"
            found = Command(self._place, "restore", "latest", "--machine", machine, "--as", name).result()
            seconds = self._clock.monotonic_s() - started_s
            tell(f"  comparing the disks of {name} with their originals")
            shown = [self._compared(disk, name) for disk in self._disks if disk.machine == machine]
            figures = found["session"]["figures"]
            self.acts.append(
                Act(
                    what=f"restore {machine}", read_bytes=figures["read_bytes"], seconds=seconds, shown="; ".join(shown)
                )
            )

    def _compared(self, disk: DemoDisk, restored: str) -> str:
        path = self._hypervisor.path(restored, disk.key)
        expected, found = sha256_of(disk.path), sha256_of(path)
        if found != expected:
            raise RestoredBytesDiffer(f"{path} has SHA-256 {found}, the original {expected}")
        complaint = problems_of(disk, path)
        if complaint:
            raise RestoredBytesDiffer(f"the file system of {path} is not clean: {complaint}")
        return f"{disk.label} identical ({found[:8]}), {disk.file_system} clean"

    def _wait_mid_disk(self, command: Command) -> None:
        wanted = self._scale.kill_at_bytes
        if not wait_until_written(self._place.repository, self._known, wanted, command):
            raise SessionFailed(f"the backup ended before {wanted >> 20} MiB of a disk were written")

    def _backup(self, what: str, meanwhile: Callable[[Command], str], *, is_resumed: bool = False) -> None:
        self._known = chain_files(self._place.repository)
        started_s = self._clock.monotonic_s()
        command = Command(self._place, "backup", JOB)
        shown = meanwhile(command)
        figures: dict[str, Any] = command.result()["session"]["figures"]
        if is_resumed:
            resent = figures["resent_bytes"]
            if resent > RESENT_MAX:
                raise SessionFailed(f"{resent} bytes were sent again after the kill, at most {RESENT_MAX} are allowed")
            shown += f"; {resent / (1 << 20):.1f} MiB sent again"
        self.acts.append(
            Act(
                what=what,
                read_bytes=figures["read_bytes"],
                stored_bytes=figures["stored_bytes"],
                seconds=self._clock.monotonic_s() - started_s,
                shown=shown,
            )
        )
