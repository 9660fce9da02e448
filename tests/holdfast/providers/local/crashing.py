"""Operations that are killed in the middle: a child process that kills itself at a chosen step.

A step is a call that changes what stands on the disk. The child forks for every operation, so that a
test can try every step of it in little time. Run as a program it takes one line per operation: the
step, the name of the operation and the provider's folder.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from holdfast.clock import SystemClock
from holdfast.model.ids import DiskKey
from holdfast.model.machine import Disk, PowerState
from holdfast.providers.checks import target_id_of
from holdfast.providers.local.hypervisor import LocalProvider

STEPS = (
    "fsync", "fdatasync", "rename", "replace", "link", "unlink", "rmdir", "mkdir", "ftruncate",
)  # fmt: skip
SYNCS = ("fsync", "fdatasync")
SIZE = 256 << 10
RESTORED = (
    Disk(key=DiskKey("scsi:0"), size_bytes=2 * SIZE),
    Disk(key=DiskKey("scsi:1"), size_bytes=SIZE),
    Disk(key=DiskKey("lost"), size_bytes=SIZE),
)


def snapshot(provider: LocalProvider) -> None:
    provider.create_snapshot(provider.machine("web").machine_id, "tag")


def remove(provider: LocalProvider) -> None:
    machine_id = provider.machine("web").machine_id
    for found in provider.snapshots(machine_id):
        provider.remove_snapshot(machine_id, found.snapshot_id)


def prepare_new(provider: LocalProvider) -> None:
    machine = provider.machine("web")
    named = msgspec.structs.replace(machine, name="new")
    provider.prepare_target("token", named, RESTORED, None)


def prepare_replacing(provider: LocalProvider) -> None:
    machine = provider.machine("web")
    provider.prepare_target("token", machine, RESTORED, machine.machine_id)


def prepare_in_place(provider: LocalProvider) -> None:
    machine = provider.machine("web")
    provider.prepare_in_place("token", machine.machine_id, machine.disks)


def commit(provider: LocalProvider) -> None:
    provider.commit_target(target_id_of("token"))


def abandon(provider: LocalProvider) -> None:
    provider.abandon_target(target_id_of("token"))


def switch_on(provider: LocalProvider) -> None:
    provider.set_power(provider.machine("web").machine_id, PowerState.ON)


def add(provider: LocalProvider) -> None:
    provider.add_machine("added", {DiskKey("a"): provider_disk(provider)}, copy=True)


def provider_disk(provider: LocalProvider) -> Path:
    return next(provider._root.machines.glob("*/disk 0.raw"))


OPERATIONS: dict[str, Callable[[LocalProvider], None]] = {
    operation.__name__: operation
    for operation in (
        snapshot, remove, prepare_new, prepare_replacing, prepare_in_place, commit, abandon, switch_on, add,
    )
}  # fmt: skip


class Crasher:
    """Runs operations in the child."""

    def __init__(self, child: "subprocess.Popen[str]") -> None:
        self._child = child

    def run(self, step: int, operation: str, root: Path) -> bool:
        """Kill the operation before its step of this number; True when it ended before."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(f"{step} {operation} {root}\n")
        self._child.stdin.flush()
        answer = self._child.stdout.readline().strip()
        assert answer in {"ended", "killed"}, answer
        return answer == "ended"


@contextmanager
def crasher() -> Iterator[Crasher]:
    command = [sys.executable, "-m", __name__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        yield Crasher(child)
        assert child.stdin is not None
        child.stdin.close()


def kill_before(step: int) -> None:
    """Let this process kill itself before its step of this number."""
    seen = 0

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == step:
                os.kill(os.getpid(), signal.SIGKILL)
            # What a kill leaves behind does not depend on what has reached the disk.
            return None if name in SYNCS else real(*args, **options)

        return call

    for name in STEPS:
        setattr(os, name, counted(name, getattr(os, name)))


def serve() -> None:
    for line in sys.stdin:
        step, operation, root = line.strip().split(" ", 2)
        child = os.fork()
        if child == 0:
            provider = LocalProvider(Path(root), SystemClock())
            kill_before(int(step))
            OPERATIONS[operation](provider)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        was_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        ended = os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
        answer = "killed" if was_killed else "ended" if ended else f"failed: {status}"
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
