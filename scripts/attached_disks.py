"""Disks at a proxy, for the recorded sweep that detaches them."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from holdfast.clock import SystemClock
from holdfast.model.ids import SessionId
from holdfast.model.machine import AttachedDisk, Machine
from holdfast.model.tags import session_tag
from holdfast.providers.local.hypervisor import LocalProvider


@contextmanager
def attached(machine: Machine, tag: str) -> Iterator[None]:
    """Let the local provider, which attaches nothing, tell of disks at a machine that is a proxy.

    One is of the snapshot with the tag, another of a session that nobody knows; each until it is detached.
    """
    left = [
        AttachedDisk(
            machine_id=machine.machine_id,
            machine_name=machine.name,
            file=f"[nfs01] web/{number}.vmdk",
            since=SystemClock().now(),
            tag=tag,
        )
        for number, tag in enumerate((tag, session_tag(SessionId("of somebody else"))))
    ]
    with (
        patch.object(LocalProvider, "attached_disks", lambda _: list(left)),
        patch.object(LocalProvider, "detach_disk", lambda _, disk: left.remove(disk)),
    ):
        yield
