"""Disks of restore points, opened for transfers: files of this host, or what the repository's data mover gives."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import TypeAlias

from temporalio import activity

from activities.contracts.machine_files import CopyMachineFiles, PlaceMachineFiles
from activities.contracts.rollback import RollBackDisk
from activities.contracts.transfer import CopyDisk, RestoreDisk
from activities.openers import PassphraseLookup, RepositoryOpener, open_point_file
from holdfast.clock import Clock
from holdfast.errors import DiskMoved, LinkRefused
from holdfast.model.ids import DiskKey
from holdfast.model.machine_files import MachineFiles
from holdfast.model.points import DiskAccess, MoverAccess
from holdfast.mover.file_transfer import put_remote_files, read_remote_files
from holdfast.mover.grants import FILES
from holdfast.mover.line import Line
from holdfast.mover.remote_sink import RemoteSink
from holdfast.mover.remote_source import RemoteSource
from holdfast.pipeline.pace import Pace
from holdfast.pipeline.paced_source import PacedSource
from holdfast.pipeline.restore import StoredSource
from holdfast.pipeline.sink import WritableDisk
from holdfast.pipeline.stages import PipeOptions
from holdfast.pipeline.throttle import Throttle
from holdfast.planning.throttling import Direction, Transfer
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.intake.open_points import OpenPoints
from holdfast.storage.intake.opening import DiskOpener, DiskPlace
from holdfast.storage.points.point_files import put_files, read_files

MoverDialler: TypeAlias = Callable[[MoverAccess, DiskAccess, int], Line]
"""Returns a line to a repository's mover for one disk and attempt. Raises `LinkError` and `ConfigurationInvalid`."""

_COUNT_BITS = 16
_COUNT_MAX = (1 << _COUNT_BITS) - 1


class PointDisks:
    """Opens disks of restore points; what is opened is closed with the stack that it is given.

    One for each process: disks of one point can be written at once only when they are opened by the same. Each keeps to
    the pace that comes with it: the repository's mover sets it, and where there is none ``throttle``.
    """

    def __init__(  # noqa: PLR0913 - without a mover it takes all of it
        self,
        repositories: RepositoryOpener,
        passphrases: PassphraseLookup,
        dial: MoverDialler,
        clock: Clock,
        options: PipeOptions,
        *,
        throttle: Throttle | None = None,
    ) -> None:
        self._throttle = throttle if throttle is not None else Throttle(clock)
        self._repositories = repositories
        self._passphrases = passphrases
        self._dial = dial
        self._clock = clock
        self._options = options
        self._points = OpenPoints()

    def open_for_writing(
        self, request: CopyDisk, lies_at: str, stack: ExitStack, pace: Pace | None = None
    ) -> WritableDisk:
        """Return a disk of a point that is being written."""
        pace = pace if pace is not None else Pace(self._clock)
        point = request.point
        if point.mover is not None:
            line, access = self._line(point.mover, request.disk)
            opened = _opened(line, access, lies_at, pace)
            stack.callback(opened.sink.close)
            return opened
        repository = self._repositories(request.repository)
        passphrase = self._passphrases(request.credential)
        opener = DiskOpener(repository, passphrase, self._clock, self._options, self._points, pace=pace)
        place = DiskPlace(
            chain=point.chain,
            file=point.file,
            number=point.number,
            point_id=point.point_id,
            parent_number=point.parent_number,
            disk=request.disk,
            lies_at=lies_at,
            repository=str(request.repository),
        )
        opened = opener.open(place, stack)
        label = f"disk {request.disk} of {point.chain}"
        transfer = Transfer(repository=request.repository, direction=Direction.WRITE, label=label)
        stack.enter_context(self._throttle.holding(transfer, pace))
        return opened

    def open_for_reading(
        self, where: RestoreDisk | RollBackDisk, stack: ExitStack, pace: Pace | None = None
    ) -> StoredSource:
        """Return a disk of a finished point."""
        pace = pace if pace is not None else Pace(self._clock)
        if where.mover is not None:
            line, access = self._line(where.mover, where.disk)
            remote = RemoteSource.open(line, access.grant, pace)
            stack.callback(remote.close)
            return remote
        repository = self._repositories(where.repository)
        chain = stack.enter_context(repository.open_chain(where.chain, self._passphrases(where.credential)))
        source = chain.disk(where.number, where.disk)
        label = f"disk {where.disk} of {where.chain}"
        transfer = Transfer(repository=where.repository, direction=Direction.READ, label=label)
        stack.enter_context(self._throttle.holding(transfer, pace))
        return PacedSource(source, pace)

    def put_files(self, request: CopyMachineFiles, files: MachineFiles) -> None:
        """Make these the machine files of a point that is being written."""
        point = request.point
        if point.mover is not None:
            line, access = self._line(point.mover, FILES)
            put_remote_files(line, access.grant, files)
            return
        repository, path = open_point_file(self._repositories, request.repository, point)
        with ChainWriter.resume(repository.files, path, self._passphrases(request.credential)) as writer:
            put_files(writer, point.number, files.files, point.point_id)

    def read_files(self, request: PlaceMachineFiles) -> MachineFiles:
        """Return the machine files of a finished point; those that are damaged are left out with the reason."""
        if request.mover is not None:
            line, access = self._line(request.mover, FILES)
            return read_remote_files(line, access.grant)
        repository = self._repositories(request.repository)
        with repository.open_chain(request.chain, self._passphrases(request.credential)) as chain:
            return read_files(chain, request.number)

    def _line(self, mover: MoverAccess, disk: DiskKey) -> tuple[Line, DiskAccess]:
        access = mover.disk(disk)
        if access is None:
            raise LinkRefused(f"the repository's worker gave no access to disk {disk}")
        return self._dial(mover, access, attempt_number(mover)), access


def _opened(line: Line, access: DiskAccess, lies_at: str, pace: Pace) -> WritableDisk:
    try:
        return RemoteSink.open(line, access.grant, lies_at, pace)
    except DiskMoved as error:
        # A disk that moved is begun again when it is opened, unless it did so too often; the line tells no more than
        # code and words of an error.
        raise DiskMoved(error.message, hint=error.hint, is_last=True) from error


def attempt_number(mover: MoverAccess) -> int:
    """Return the number of the present attempt, higher than those of all earlier ones at the same access.

    No clock is in it. Within an activity Temporal counts the attempts; of activities that have the same access, because
    the proxy of the first was lost, the session's workflow counts the uses. It fits the 32 bits of the greeting: a
    count that stays where it is makes a mover forget the session, which gets another access then.
    """
    return min(mover.use, _COUNT_MAX) << _COUNT_BITS | min(activity.info().attempt, _COUNT_MAX)
