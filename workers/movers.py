"""The data movers of a worker process: those it serves for its repositories, and how it reaches those of others."""

import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import PurePosixPath

from activities.openers import PassphraseLookup, RepositoryOpener
from holdfast.clock import Clock
from holdfast.model.ids import CredentialName, DiskKey, RepositoryName
from holdfast.model.machine_files import MachineFile, MachineFiles
from holdfast.model.points import MoverAccess, OpenPoint
from holdfast.mover.client import MoverClient
from holdfast.mover.grants import FILES, Grant, Issuer, load_secret, new_salt, session_of
from holdfast.mover.reading import PackedFile
from holdfast.mover.server import MoverServer, ServerOptions
from holdfast.mover.service import Service
from holdfast.mover.sockets import Identity, MoverTls
from holdfast.pipeline.restore import StoredSource
from holdfast.pipeline.sink import WritableDisk
from holdfast.pipeline.stages import PipeOptions
from holdfast.pipeline.throttle import Throttle
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.intake.open_points import OpenPoints
from holdfast.storage.intake.opening import DiskOpener, DiskPlace
from holdfast.storage.points.point_files import put_files, read_files
from workers.config import Settings
from workers.mover_settings import MoverPlace

_KEY_FILE = "mover.key"
GRANTED = timedelta(days=14)
"""How long a session may begin with a grant; longer than any backup or restore takes."""


class Movers:
    """Serves data movers and issues access to them. `access` may be called from several threads."""

    def __init__(
        self,
        settings: Settings,
        repositories: RepositoryOpener,
        passphrases: PassphraseLookup,
        clock: Clock,
        throttle: Throttle | None = None,
    ) -> None:
        self._throttle = throttle
        self._settings = settings
        self._repositories = repositories
        self._passphrases = passphrases
        self._clock = clock
        self._issuer: Issuer | None = None
        self._places: dict[RepositoryName, MoverPlace] = {}
        self._servers: list[MoverServer] = []
        self._lock = threading.Lock()
        self._written: dict[bytes, Grant] = {}
        self._points = OpenPoints()

    @contextmanager
    def serving(self, names: Sequence[RepositoryName]) -> Iterator[None]:
        """Serve the movers of repositories, as far as they are to have one. Raises `ConfigurationInvalid`."""
        with ExitStack() as stack:
            for name in names:
                place = self._settings.repository(name).mover_place
                if place is not None:
                    self._serve(name, place, stack)
            yield

    def _serve(self, name: RepositoryName, place: MoverPlace, stack: ExitStack) -> None:
        self._issuer = self._issuer or Issuer(load_secret(self._settings.home / _KEY_FILE))
        service = Service(self._issuer, self, self._clock, self._throttle)
        tls = server_context(self._settings) if place.has_tls else None
        options = ServerOptions(address=place.listens_at)
        server = stack.enter_context(MoverServer(options, tls, self._issuer.token, service.serve, self._clock))
        self._servers.append(server)
        stack.callback(self._servers.remove, server)
        self._places[name] = place
        stack.callback(self._places.pop, name)

    def to_write(
        self, name: RepositoryName, point: OpenPoint, disks: Sequence[DiskKey], credential: CredentialName | None
    ) -> MoverAccess | None:
        """Return access to write disks of a point that was begun; None when the repository has no mover."""
        return self._access(
            name,
            [
                Grant(
                    repository=name,
                    chain=point.chain,
                    number=point.number,
                    point_id=point.point_id,
                    disk=disk,
                    credential=credential,
                    writes_file=point.file,
                    parent_number=point.parent_number,
                    expires_s=self._expiry_s(),
                    salt=new_salt(),
                )
                for disk in (*disks, FILES)
            ],
        )

    def to_read(
        self, name: RepositoryName, chain: str, number: int, disks: Sequence[DiskKey], credential: CredentialName | None
    ) -> MoverAccess | None:
        """Return access to read disks of a finished point; None when the repository has no mover."""
        return self._access(
            name,
            [
                Grant(
                    repository=name,
                    chain=chain,
                    number=number,
                    disk=disk,
                    credential=credential,
                    expires_s=self._expiry_s(),
                    salt=new_salt(),
                )
                for disk in (*disks, FILES)
            ],
        )

    def end_writing(self, name: RepositoryName, folder: str) -> None:
        """End the sessions that write below a folder of a repository; return when they have let go of its files.

        A mover waits long for a proxy to come back, and holds the chain as long; one that is dead never does.
        """
        with self._lock:
            found = [
                session
                for session, grant in self._written.items()
                if grant.repository == name and PurePosixPath(grant.chain).is_relative_to(folder)
            ]
        for session in found:
            for server in list(self._servers):
                server.end(session, f"the repository's worker ended what was written to {folder}")

    def _access(self, name: RepositoryName, grants: Sequence[Grant]) -> MoverAccess | None:
        place, issuer = self._places.get(name), self._issuer
        if place is None or issuer is None:
            return None
        accesses = tuple(issuer.issue(grant) for grant in grants)
        told = self._settings.repository(name)
        return MoverAccess(
            address=str(place.reached_at),
            has_tls=place.has_tls,
            disks=accesses,
            patience_s=float(told.mover_patience),
            connections=told.mover_connections,
        )

    def _expiry_s(self) -> int:
        return int((self._clock.now() + GRANTED).timestamp())

    def open_for_writing(self, grant: Grant, lies_at: str, stack: ExitStack) -> WritableDisk:
        """Open a disk of an unfinished point."""
        assert grant.writes_file is not None, "asked by the service"
        self._note_writing(grant, stack)
        repository = self._repositories(grant.repository)
        opener = DiskOpener(repository, self._passphrases(grant.credential), self._clock, PipeOptions(), self._points)
        place = DiskPlace(
            chain=grant.chain,
            file=grant.writes_file,
            number=grant.number,
            point_id=grant.point_id or "",
            parent_number=grant.parent_number,
            disk=grant.disk,
            lies_at=lies_at,
            repository=str(grant.repository),
        )
        return opener.open(place, stack)

    def _note_writing(self, grant: Grant, stack: ExitStack) -> None:
        """Know a session that writes, from before its files are opened until they are closed."""
        assert self._issuer is not None, "a session is served"
        session = session_of(self._issuer.issue(grant))  # as it was written, which is how it is written again
        with self._lock:
            self._written[session] = grant
        stack.callback(self._forget_writing, session)

    def _forget_writing(self, session: bytes) -> None:
        with self._lock:
            del self._written[session]

    def open_for_reading(self, grant: Grant, stack: ExitStack) -> tuple[StoredSource, Sequence[PackedFile]]:
        """Open a disk of a finished point."""
        repository = self._repositories(grant.repository)
        chain = stack.enter_context(repository.open_chain(grant.chain, self._passphrases(grant.credential)))
        return chain.disk(grant.number, grant.disk), chain.files

    def put_files(self, grant: Grant, files: Sequence[MachineFile]) -> None:
        """Make these the machine files of an unfinished point."""
        assert grant.writes_file is not None, "asked by the service"
        repository = self._repositories(grant.repository)
        path = repository.chain_file(grant.chain, grant.writes_file)
        with ChainWriter.resume(repository.files, path, self._passphrases(grant.credential)) as writer:
            put_files(writer, grant.number, files, grant.point_id or "")

    def read_files(self, grant: Grant) -> MachineFiles:
        """Return the machine files of a finished point."""
        repository = self._repositories(grant.repository)
        with repository.open_chain(grant.chain, self._passphrases(grant.credential)) as chain:
            return read_files(chain, grant.number)


def mover_client(settings: Settings, clock: Clock) -> MoverClient:
    """Return what dials the movers of repositories. Raises `ConfigurationInvalid` for unusable certificates."""
    identity = mover_identity(settings)
    tls = None if identity is None else identity.context(ssl.PROTOCOL_TLS_CLIENT)
    return MoverClient(tls, clock)


def server_context(settings: Settings) -> MoverTls | None:
    """Return the TLS context of movers that are reached from other hosts."""
    identity = mover_identity(settings)
    return None if identity is None else identity.context(ssl.PROTOCOL_TLS_SERVER)


def mover_identity(settings: Settings) -> Identity | None:
    """Return the certificates of this worker's movers, None when the configuration names none."""
    told = settings.mover
    return None if told is None else Identity(ca_file=told.ca_file, certificate=told.certificate, key=told.key)
