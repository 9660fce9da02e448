"""The repository's side of a backup or restore between two movers, as a process of its own.

`python -m tests.bench.repository_side <RepositoryRequest as JSON>` says, as JSON, how each machine's disk is reached,
and serves until its input ends. A line of input finishes the points first; a `Result` as JSON is its last word.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from holdfast.clock import SystemClock
from holdfast.model.ids import MachineId, RepositoryName, SessionId
from holdfast.model.machine_files import MachineFile, MachineFiles
from holdfast.model.points import MoverAccess, OpenPoint
from holdfast.mover.grants import Grant, Issuer, new_salt
from holdfast.mover.reading import PackedFile
from holdfast.mover.server import MoverServer, ServerOptions
from holdfast.mover.service import Service
from holdfast.mover.sockets import Address
from holdfast.pipeline.restore import StoredSource
from holdfast.pipeline.sink import WritableDisk
from holdfast.pipeline.stages import PipeOptions
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.intake.finishing import finish_point
from holdfast.storage.intake.lifecycle import StoreOptions, begin_point
from holdfast.storage.intake.opening import DiskOpener, DiskPlace
from tests.bench.child import KEY, MACHINE, UNIT_SIZE, Request, Result, snapshot_of
from tests.bench.identities import listening_context
from tests.bench.usage import add_usage

_CLOCK = SystemClock()
_VALID_S = 86400


class RepositoryRequest(msgspec.Struct, kw_only=True):
    """What to serve: a point of each machine to be written, or the newest point of each to be read."""

    request: Request
    size_bytes: int = 0
    """Of each disk; 0 to read the newest points."""
    machines: int = 1
    host: str = "127.0.0.1"
    certificates: str = ""
    """Folder of the certificates; empty for plain connections."""


class Store:
    """Serves one repository; see `holdfast.mover.service.PointStore`."""

    def __init__(self, asked: RepositoryRequest, issuer: Issuer) -> None:
        self._asked = asked
        self._issuer = issuer
        self._passphrase = asked.request.passphrase
        root, files = Path(asked.request.repository), HostFiles()
        self._repository = Repository.create(root, files, "bench", _CLOCK.now())
        self._points: list[OpenPoint] = []

    def begin(self, address: Address) -> list[MoverAccess]:
        """Begin the points that are to be written; return how the disks are reached."""
        asked = self._asked
        if not asked.size_bytes:
            return [self._access(address, grant) for grant in self._newest()]
        options = StoreOptions(unit_size=UNIT_SIZE, passphrase=self._passphrase)
        session = SessionId(asked.request.session)
        for number in range(asked.machines):
            name = MachineId(f"{MACHINE}-{number}") if asked.machines > 1 else MACHINE
            snapshot = snapshot_of(asked.size_bytes, session, name)
            self._points.append(begin_point(self._repository, session, snapshot, options))
        return [self._access(address, self._written(point)) for point in self._points]

    def finish(self) -> int:
        """Finish the points; return the bytes of their files."""
        return sum(finish_point(self._repository, point, self._passphrase).file_bytes for point in self._points)

    def _access(self, address: Address, grant: Grant) -> MoverAccess:
        access = self._issuer.issue(grant)
        return MoverAccess(address=str(address), has_tls=bool(self._asked.certificates), disks=(access,))

    def _written(self, point: OpenPoint) -> Grant:
        return msgspec.structs.replace(
            _grant(point.chain, point.number), writes_file=point.file, parent_number=point.parent_number
        )

    def _newest(self) -> Iterator[Grant]:
        for folder in self._repository.chain_folders()[-self._asked.machines :]:
            name = self._repository.relative(folder)
            with self._repository.open_chain(name, self._passphrase) as chain:
                *_, (_, point) = chain.points()
                yield _grant(name, point.number)

    def open_for_writing(self, grant: Grant, lies_at: str, stack: ExitStack) -> WritableDisk:
        assert grant.writes_file is not None
        place = DiskPlace(
            chain=grant.chain,
            file=grant.writes_file,
            number=grant.number,
            parent_number=grant.parent_number,
            disk=grant.disk,
            lies_at=lies_at,
        )
        return DiskOpener(self._repository, self._passphrase, _CLOCK, PipeOptions()).open(place, stack)

    def open_for_reading(self, grant: Grant, stack: ExitStack) -> tuple[StoredSource, Sequence[PackedFile]]:
        chain = stack.enter_context(self._repository.open_chain(grant.chain, self._passphrase))
        return chain.disk(grant.number, grant.disk), chain.files

    def put_files(self, grant: Grant, files: Sequence[MachineFile]) -> None:
        raise AssertionError(f"point {grant.number} gets {len(files)} machine files, which nobody sends")

    def read_files(self, grant: Grant) -> MachineFiles:
        raise AssertionError(f"point {grant.number} has no machine files")


def _grant(chain: str, number: int) -> Grant:
    return Grant(
        repository=RepositoryName("bench"),
        chain=chain,
        number=number,
        disk=KEY,
        expires_s=int(_CLOCK.now().timestamp()) + _VALID_S,
        salt=new_salt(),
    )


def main() -> None:
    """Serve what the first argument asks for."""
    asked = msgspec.json.decode(sys.argv[1], type=RepositoryRequest)
    issuer = Issuer(bytes(32))
    store = Store(asked, issuer)
    service = Service(issuer, store, _CLOCK)
    tls = listening_context(Path(asked.certificates)) if asked.certificates else None
    options = ServerOptions(address=Address(asked.host, 0))
    result = Result()
    with MoverServer(options, tls, issuer.token, service.serve, _CLOCK) as server:
        started_s = _CLOCK.monotonic_s()
        accesses = store.begin(server.address)
        begun_s = _CLOCK.monotonic_s()
        _say(accesses)
        if sys.stdin.readline():
            wanted_s = _CLOCK.monotonic_s()
            result.file_bytes = store.finish()
            result.parts = {"begin": begun_s - started_s, "finish": _CLOCK.monotonic_s() - wanted_s}
    add_usage(result)
    _say(result)


def _say(what: object) -> None:
    sys.stdout.write(msgspec.json.encode(what).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
