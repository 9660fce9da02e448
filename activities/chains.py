"""Changes of a machine's newest chain: what its job's method wants, and compaction."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from activities.binding import implements
from activities.boundary import resume_cursor
from activities.contracts import chains as contract
from activities.contracts.retention import PointMoved
from activities.openers import PassphraseLookup, RepositoryOpener
from activities.pulse import STALL_S, Pulse
from holdfast.clock import Clock
from holdfast.model.ids import FileId, MachineId
from holdfast.model.points import PointSummary
from holdfast.storage.chains.repository import Repository
from holdfast.storage.methods.applying import ChainWish, Change, apply_method, compact_if_due, newest_chain

_Work: TypeAlias = Callable[[Repository, Path, str | None, ChainWish, Callable[[int], None]], Change]


class ChainActivities:
    """Serves `activities.contracts.chains`."""

    def __init__(self, repositories: RepositoryOpener, passphrases: PassphraseLookup, clock: Clock) -> None:
        self._repositories = repositories
        self._passphrases = passphrases
        self._clock = clock

    @implements(contract.apply_method)
    def apply_method(self, request: contract.ChangeChain) -> contract.ChainChanged:
        """Make the newest point a full where the method wants it."""
        return self._change(request, apply_method)

    @implements(contract.compact)
    def compact(self, request: contract.ChangeChain) -> contract.ChainChanged:
        """Write the full anew when it is due and loose."""
        return self._change(request, compact_if_due)

    def _change(self, request: contract.ChangeChain, work: _Work) -> contract.ChainChanged:
        previous = resume_cursor(contract.ChangeCursor)
        before = 0 if previous is None else previous.moved_bytes
        with Pulse(self._clock, cursor=previous, stall_s=STALL_S) as pulse:

            def report(moved_bytes: int) -> None:
                pulse.beat(contract.ChangeCursor(moved_bytes=before + moved_bytes))

            report(0)
            repository = self._repositories(request.repository)
            repository.check_present()
            passphrase = self._passphrases(request.credential)
            machine = repository.machine_folder(MachineId(request.machine_id), request.machine_name)
            folder = newest_chain(repository, machine, passphrase)
            wish = ChainWish(options=request.options, began=request.began, is_asked_for=request.is_asked_for)
            return _told(work(repository, folder, passphrase, wish, report), repository.relative(folder), before)


def _told(change: Change, chain: str, before: int) -> contract.ChainChanged:
    elsewhere = [point for point in change.moved if point.chain != chain]
    return contract.ChainChanged(
        reason=change.reason,
        is_done=bool(change.what),
        what=change.what,
        moved_bytes=before + change.moved_bytes,
        shared_bytes=change.shared_bytes,
        displaced_bytes=change.displaced_bytes,
        freed_bytes=change.freed_bytes,
        point=elsewhere[-1] if elsewhere else None,
        moved=_moved([point for point in change.moved if point.chain == chain]),
    )


def _moved(points: Sequence[PointSummary]) -> tuple[PointMoved, ...]:
    """Return where points are now, those of one file together."""
    files: dict[FileId, list[PointSummary]] = {}
    for point in points:
        files.setdefault(point.file_id, []).append(point)
    return tuple(
        PointMoved(
            point_id=newest.point_id,
            others=tuple(point.point_id for point in others),
            file=newest.file,
            file_id=newest.file_id,
            generation=newest.generation,
            kind=newest.kind,
        )
        for *others, newest in files.values()
    )
