"""A tiny NBD server that does what a test tells it to, right or wrong."""

import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from holdfast.providers.nbd import protocol as nbd
from holdfast.providers.nbd.wire import Export

MIB = 1 << 20
SIZE = 8 * MIB
CONTEXT = 7
READER_FLAGS = nbd.NBD_FLAG_HAS_FLAGS | nbd.NBD_FLAG_READ_ONLY
WRITER_FLAGS = nbd.NBD_FLAG_HAS_FLAGS | nbd.NBD_FLAG_SEND_FLUSH | nbd.NBD_FLAG_SEND_FUA
GREETING = struct.pack(">QQH", nbd.NBDMAGIC, nbd.IHAVEOPT, nbd.NBD_FLAG_FIXED_NEWSTYLE | nbd.NBD_FLAG_NO_ZEROES)


class Request(NamedTuple):
    """A request as it stands on the wire."""

    flags: int
    command: int
    cookie: int
    offset: int
    length: int


class Peer:
    """The server's end of one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def send(self, *parts: bytes) -> None:
        self.connection.sendall(b"".join(parts))

    def receive(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            piece = self.connection.recv(length - len(data))
            if not piece:
                raise ConnectionResetError("the client left")
            data += piece
        return data

    def greet(
        self, *, size: int = SIZE, flags: int = READER_FLAGS, is_structured: bool = True, infos: bytes = b""
    ) -> None:
        """Do the whole handshake; ``infos`` are further replies to the option GO."""
        self.send(GREETING)
        self.receive(4)
        while True:
            option, _ = self.receive_option()
            if option == nbd.NBD_OPT_STRUCTURED_REPLY and is_structured:
                self.send(option_reply(option, nbd.NBD_REP_ACK))
            elif option == nbd.NBD_OPT_SET_META_CONTEXT:
                context = struct.pack(">I", CONTEXT) + nbd.BASE_ALLOCATION.encode()
                self.send(
                    option_reply(option, nbd.NBD_REP_META_CONTEXT, context), option_reply(option, nbd.NBD_REP_ACK)
                )
            elif option == nbd.NBD_OPT_GO:
                export = struct.pack(">HQH", nbd.NBD_INFO_EXPORT, size, flags)
                self.send(option_reply(option, nbd.NBD_REP_INFO, export), infos, option_reply(option, nbd.NBD_REP_ACK))
                return
            else:
                self.send(option_reply(option, nbd.NBD_REP_ERR_UNSUP))

    def receive_option(self) -> tuple[int, bytes]:
        magic, option, length = struct.unpack(">QII", self.receive(16))
        assert magic == nbd.IHAVEOPT
        return option, self.receive(length)

    def receive_request(self) -> Request:
        magic, *fields = struct.unpack(">IHHQQI", self.receive(28))
        assert magic == nbd.NBD_REQUEST_MAGIC
        return Request(*fields)

    def wait_until_client_leaves(self) -> None:
        while self.connection.recv(4096):
            pass


Script = Callable[[Peer], None]


class ScriptedServer:
    """Runs the script for every connection, each on a thread of its own."""

    def __init__(self, folder: Path, script: Script) -> None:
        self.path = folder / "nbd"
        self.script = script
        self.accepted = 0
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._acceptor = threading.Thread(target=self._accept)

    def export(self, timeout_s: float = 20.0) -> Export:
        return Export(address=self.path, timeout_s=timeout_s)

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                self.script(Peer(connection))
            except ConnectionError:
                return  # the client left first, which many scripts provoke


def option_reply(option: int, kind: int, payload: bytes = b"") -> bytes:
    return struct.pack(">QIII", nbd.OPTION_REPLY_MAGIC, option, kind, len(payload)) + payload


def block_sizes(minimum: int, preferred: int, maximum: int) -> bytes:
    payload = struct.pack(">HIII", nbd.NBD_INFO_BLOCK_SIZE, minimum, preferred, maximum)
    return option_reply(nbd.NBD_OPT_GO, nbd.NBD_REP_INFO, payload)


def simple(cookie: int, error: int = 0) -> bytes:
    return struct.pack(">IIQ", nbd.NBD_SIMPLE_REPLY_MAGIC, error, cookie)


def chunk(cookie: int, kind: int, payload: bytes = b"", *, is_last: bool = True) -> bytes:
    return struct.pack(">IHHQI", nbd.NBD_STRUCTURED_REPLY_MAGIC, int(is_last), kind, cookie, len(payload)) + payload


def data(cookie: int, offset: int, content: bytes, *, is_last: bool = True) -> bytes:
    return chunk(cookie, nbd.NBD_REPLY_TYPE_OFFSET_DATA, struct.pack(">Q", offset) + content, is_last=is_last)


def hole(cookie: int, offset: int, length: int, *, is_last: bool = True) -> bytes:
    return chunk(cookie, nbd.NBD_REPLY_TYPE_OFFSET_HOLE, struct.pack(">QI", offset, length), is_last=is_last)


def error(cookie: int, number: int, message: str = "", *, is_last: bool = True) -> bytes:
    payload = struct.pack(">IH", number, len(message)) + message.encode()
    return chunk(cookie, nbd.NBD_REPLY_TYPE_ERROR, payload, is_last=is_last)


def status(cookie: int, *runs: tuple[int, int], context: int = CONTEXT, is_last: bool = True) -> bytes:
    payload = struct.pack(">I", context) + b"".join(struct.pack(">II", *run) for run in runs)
    return chunk(cookie, nbd.NBD_REPLY_TYPE_BLOCK_STATUS, payload, is_last=is_last)
