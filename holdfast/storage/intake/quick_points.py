"""Begins the point of a quick backup: an increment behind what its job has, never a chain of its own."""

from datetime import timedelta
from zoneinfo import ZoneInfo

import msgspec

from holdfast.model.ids import SessionId
from holdfast.model.machine import Snapshot
from holdfast.model.points import OpenPoint
from holdfast.model.retention import PointNote, QuickBackup
from holdfast.storage.chains.begun_notes import note_begun
from holdfast.storage.chains.repository import Repository
from holdfast.storage.intake.lifecycle import StoreOptions, begin_point


def begin_quick(
    repository: Repository, session: SessionId, snapshot: Snapshot, options: StoreOptions, quick: QuickBackup
) -> OpenPoint:
    """Begin an increment behind the newest point of a machine, or return the one this session has begun already.

    Raises `PointNotFound` when there is no chain that it could continue, and what `begin_point` raises.
    """
    options = msgspec.structs.replace(options, only_increment=True)
    begun = begin_point(repository, session, snapshot, options)
    began = quick.began or snapshot.created
    lock = began + timedelta(days=quick.lock_days) if quick.lock_days else None
    day = began.astimezone(ZoneInfo(quick.timezone)).date()
    note = PointNote(point_id=begun.point_id, day=day, locked_until=lock, is_quick=True, is_increment=True)
    note_begun(repository, begun, options.passphrase, note)
    return begun
