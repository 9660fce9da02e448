"""Two movers with a repository behind one of them, in one process."""

import datetime as dt
import ipaddress
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from holdfast.clock import Clock, SystemClock
from holdfast.formats.mover.events import LinkOptions
from holdfast.formats.mover.greeting import Hello
from holdfast.model.compression import Compression
from holdfast.model.ids import RepositoryName
from holdfast.model.machine_files import MachineFile, MachineFiles
from holdfast.model.points import DiskAccess, OpenPoint
from holdfast.model.session import Figures
from holdfast.model.spans import Span
from holdfast.mover.grants import Grant, Issuer, new_salt, session_of
from holdfast.mover.line import Line
from holdfast.mover.reading import PackedFile
from holdfast.mover.remote_sink import RemoteSink
from holdfast.mover.remote_source import RemoteSource
from holdfast.mover.server import MoverServer, ServerOptions
from holdfast.mover.service import Service
from holdfast.mover.sockets import Address, Identity, MoverTls, dial, new_nonce
from holdfast.pipeline.backup import DiskCopy
from holdfast.pipeline.disks import DiskReader
from holdfast.pipeline.pace import Pace
from holdfast.pipeline.restore import StoredSource
from holdfast.pipeline.sink import WritableDisk
from holdfast.pipeline.stages import PipeOptions, PipeProgress
from holdfast.pipeline.throttle import Throttle
from holdfast.planning.read_plan import whole_disk_steps
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.intake.lifecycle import StoreOptions
from holdfast.storage.intake.open_points import OpenPoints
from holdfast.storage.intake.opening import DiskOpener, DiskPlace
from holdfast.storage.points.point_files import put_files, read_files
from holdfast.testing.chains import ProtectedMachine
from holdfast.testing.memory import MemoryDisk

CLOCK = SystemClock()
HERE = Address("127.0.0.1", 0)
MIB = 1 << 20
PIECE = 64 << 10
SWIFT = LinkOptions(streams=2, redial_s=0.2, silence_s=2.0, heartbeat_s=0.4, give_up_s=20.0)
"""A link of a proxy in a hurry."""
PLAIN_PIPE = PipeOptions(compression=Compression.NONE, commit_interval_s=1e9)


def until(holds: Callable[[], bool], what: str, limit_s: float = 30.0) -> None:
    """Return once something holds that other threads bring about."""
    deadline_s = CLOCK.monotonic_s() + limit_s
    pause = threading.Event()
    while not holds():
        assert CLOCK.monotonic_s() < deadline_s, f"not within {limit_s:g} s: {what}"
        pause.wait(0.005)


def mover_threads() -> list[str]:
    """Return the names of the threads of movers and pipes that live."""
    names = ("mover", "seal", "pipe")
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(names)]


def open_files() -> set[str]:
    """Return the sockets, pipes and files that this process has open, each as its number and what it is."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the folder itself
            found.add(f"{descriptor.name} {descriptor.readlink()}")
    return found


@contextmanager
def nothing_stays() -> Iterator[None]:
    """Fail when a thread of a mover lives on, or a socket, a pipe or a file stays open."""
    before = open_files()
    yield
    until(lambda: not mover_threads(), f"threads end: {mover_threads()}")
    until(lambda: open_files() <= before, f"files are closed: {sorted(open_files() - before)}")


class Authority:
    """Makes certificates."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.ca_file = folder / f"{name}.pem"
        certificate = self._builder(self._name, self._key, 1).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.ca_file.write_bytes(self._signed(certificate))

    def identity(self, name: str, *, days: int = 1, begins: int = -10, trusts: "Authority | None" = None) -> Identity:
        """Return a certificate for 127.0.0.1, good from ``begins`` to ``begins + 10 + days`` days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = self._builder(subject, key, days, begins).add_extension(names, critical=False)
        paths = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        paths[0].write_bytes(self._signed(certificate))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return Identity(
            ca_file=trusts.ca_file if trusts is not None else self.ca_file, certificate=paths[0], key=paths[1]
        )

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: int, begins: int = -10
    ) -> x509.CertificateBuilder:
        day = dt.timedelta(days=1)
        today = CLOCK.now()
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(today + begins * day)
            .not_valid_after(today + (begins + 10 + days) * day)
        )

    def _signed(self, certificate: x509.CertificateBuilder) -> bytes:
        return certificate.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class Setting(msgspec.Struct, kw_only=True):
    """How movers are set up."""

    server_tls: MoverTls | None = None
    client_tls: MoverTls | None = None
    options: ServerOptions = ServerOptions(address=HERE, link=SWIFT)
    link: LinkOptions = SWIFT
    pipe: PipeOptions = PLAIN_PIPE
    clock: Clock = CLOCK
    """Of the repository's side."""


class Site:
    """A repository in a folder, a machine, and what movers need to get at it."""

    def __init__(self, folder: Path, sizes: dict[str, int], setting: Setting | None = None) -> None:
        self.setting = setting if setting is not None else Setting()
        self.files = HostFiles()
        if not folder.exists():
            Repository.create(folder, self.files, "id", CLOCK.now())
        self.repository = Repository.open(folder, self.files)
        store = StoreOptions(unit_size=256 << 10, passphrase=None)
        self.machine = ProtectedMachine(self.repository, 3, sizes, store, self.setting.pipe)
        self.issuer = Issuer(b"s" * 32)
        self.throttle = Throttle(CLOCK)
        self.points = OpenPoints()
        self.lines: list[Line] = []
        """Those that the server has served."""

    def begin(self) -> OpenPoint:
        """Begin a point of the machine, all of whose disks are written over."""
        for disk in self.machine.disks.values():
            disk.write(Span(0, disk.size_bytes))
        self.machine.sessions += 1
        return self.machine.begin()

    def grant(self, opened: OpenPoint, disk: str = "a", *, valid_s: int = 1000) -> Grant:
        """Return the right to write a disk of a point."""
        return msgspec.convert(
            {
                "repository": RepositoryName("r"),
                "chain": opened.chain,
                "number": opened.number,
                "disk": disk,
                "writes_file": opened.file,
                "parent_number": opened.parent_number,
                "expires_s": int(CLOCK.now().timestamp()) + valid_s,
                "salt": new_salt(),
            },
            Grant,
        )

    def access(self, opened: OpenPoint, disk: str = "a") -> DiskAccess:
        """Return a grant to write, with its token."""
        return self.issuer.issue(self.grant(opened, disk))

    def reading(self, chain: str, number: int, disk: str = "a") -> DiskAccess:
        """Return a grant to read, with its token."""
        names = {"repository": "r", "chain": chain, "number": number, "disk": disk}
        grant = {**names, "expires_s": int(CLOCK.now().timestamp()) + 1000, "salt": new_salt()}
        return self.issuer.issue(msgspec.convert(grant, Grant))

    def server(self, open_for_writing: Callable[[Grant, str, ExitStack], WritableDisk] | None = None) -> MoverServer:
        """Return the mover of the repository."""
        if open_for_writing is not None:
            self.open_for_writing = open_for_writing  # type: ignore[method-assign,assignment] # as the test wants it
        clock = self.setting.clock
        service = Service(self.issuer, self, clock, self.throttle)

        def serve(session: bytes, line: Line) -> None:
            self.lines.append(line)
            service.serve(session, line)

        return MoverServer(self.setting.options, self.setting.server_tls, self.issuer.token, serve, clock)

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
        opener = DiskOpener(self.repository, None, self.setting.clock, self.setting.pipe, self.points)
        return opener.open(place, stack)

    def open_for_reading(self, grant: Grant, stack: ExitStack) -> tuple[StoredSource, list[PackedFile]]:
        chain = stack.enter_context(self.repository.open_chain(grant.chain, None))
        return chain.disk(grant.number, grant.disk), list(chain.files)

    def put_files(self, grant: Grant, files: Sequence[MachineFile]) -> None:
        assert grant.writes_file is not None
        path = self.repository.chain_file(grant.chain, grant.writes_file)
        with ChainWriter.resume(self.files, path) as writer:
            put_files(writer, grant.number, files)

    def read_files(self, grant: Grant) -> MachineFiles:
        with self.repository.open_chain(grant.chain, None) as chain:
            return read_files(chain, grant.number)

    def line(self, address: Address, access: DiskAccess, attempt: int = 1) -> Line:
        """Return the proxy's side of a session."""
        session, token, streams = session_of(access), bytes.fromhex(access.token), self.setting.link.streams
        tls = self.setting.client_tls

        def hello(number: int) -> Hello:
            return Hello(session=session, attempt=attempt, connection=number, connections=streams, nonce=new_nonce())

        return Line(self.setting.link, CLOCK, lambda number: dial(address, tls, hello(number), token))

    def sink(self, address: Address, access: DiskAccess, attempt: int = 1, pace: Pace | None = None) -> WritableDisk:
        return RemoteSink.open(self.line(address, access, attempt), access.grant, pace=pace)

    def source(self, address: Address, access: DiskAccess, attempt: int = 1, pace: Pace | None = None) -> RemoteSource:
        return RemoteSource.open(self.line(address, access, attempt), access.grant, pace)

    def reader(self, disk: str = "a") -> MemoryDisk:
        """Return a disk of the machine as it is now."""
        found = self.machine.disks[disk]
        return MemoryDisk(found.read(Span(0, found.size_bytes)))

    def copy(
        self, writable: WritableDisk, reader: DiskReader, report: Callable[[PipeProgress], None] = lambda _: None
    ) -> Figures:
        """Bring a whole disk over."""
        size = reader.size_bytes
        copy = DiskCopy(reader, writable.sink, CLOCK, self.setting.pipe)
        return copy.run(whole_disk_steps([Span(0, size)], size, PIECE), report)

    def transfer(self, address: Address, access: DiskAccess, attempt: int = 1, disk: str = "a") -> Figures:
        """Bring a whole disk over in one session."""
        return self.copy(self.sink(address, access, attempt), self.reader(disk))

    def is_free(self, opened: OpenPoint) -> bool:
        """Return whether nobody holds the chain file."""
        path = self.repository.chain_file(opened.chain, opened.file)
        with closing(ChainWriter.resume(self.files, path)):
            return True

    def finish(self, opened: OpenPoint) -> None:
        """Finish the point and compare every byte."""
        self.machine.finish(opened)
        assert self.machine.differences() == []


def numbered(pieces: int) -> MemoryDisk:
    """Return a disk whose pieces all differ."""
    return MemoryDisk(b"".join((number + 1).to_bytes(8, "big") * (PIECE // 8) for number in range(pieces)))
