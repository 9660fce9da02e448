r"""Serves disks of the lab vCenter over NBD, in the place of nbdkit's ``vddk`` plugin, with the same parameters.

::

    nbdkit -r python lab.py server=127.0.0.1 port=8989 user=... password=+FILE thumbprint=AA:BB:... \
        vm=moref=vm-1 snapshot=snapshot-2 file='[LocalDS_0] web/web.vmdk'

Each connection asks the vCenter for the disk, as the library of the real plugin does: the certificate has to have the
thumbprint, the password has to be right, and the file has to belong to the machine or the snapshot. With a snapshot it
is read only. Runs inside nbdkit with the Python of the distribution; nothing but the standard library is used.
"""

import base64
import ctypes
import errno
import hashlib
import http.client
import json
import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import nbdkit

API_VERSION = 2
TIMEOUT_S = 30.0
ZEROS = bytes(1 << 20)
FALLOC_FL_KEEP_SIZE = 1
FALLOC_FL_PUNCH_HOLE = 2
ERRORS = {
    http.HTTPStatus.UNAUTHORIZED: errno.EACCES,
    http.HTTPStatus.NOT_FOUND: errno.ENOENT,
    http.HTTPStatus.CONFLICT: errno.EBUSY,
}
# Taken and not used: they choose between ways to the same bytes.
IGNORED = {"libdir", "transports", "compression", "config", "nfchostport", "single-link", "unbuffered"}
WANTED = {"server", "user", "password", "thumbprint", "vm", "file"}
OPTIONAL = {"port", "snapshot", "cookie"}

parameters: dict[str, str] = {}
libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class Disk:
    """An open extent."""

    def __init__(self, answer: dict[str, object], *, is_reader: bool) -> None:
        self.is_read_only = is_reader or bool(answer["read_only"])
        self.descriptor = os.open(str(answer["path"]), os.O_RDONLY if self.is_read_only else os.O_RDWR)
        self.size = int(str(answer["size"]))


def config(key: str, value: str) -> None:
    """Take a parameter; as with the real plugin ``+FILE`` keeps a password out of the command line."""
    if key not in WANTED | OPTIONAL | IGNORED:
        raise RuntimeError(f"unknown parameter {key}")
    if key == "password":
        value = read_password(value)
    if key == "vm":
        value = value.removeprefix("moref=")
    parameters[key] = value


def config_complete() -> None:
    """Refuse to start without a parameter that is needed."""
    missing = sorted(WANTED - parameters.keys())
    if missing:
        raise RuntimeError(f"parameters are missing: {', '.join(missing)}")


def thread_model() -> int:
    """Serve several requests of several connections at once; the system calls release the interpreter."""
    return int(nbdkit.THREAD_MODEL_PARALLEL)


def open(readonly: bool) -> Disk:  # noqa: A001, FBT001 # nbdkit calls it by this name
    """Ask the vCenter for the disk and open its bytes."""
    try:
        answer = ask(
            {
                "vm": parameters["vm"],
                "snapshot": parameters.get("snapshot", ""),
                "file": parameters["file"],
                "read_only": readonly,
            }
        )
        return Disk(answer, is_reader=readonly)
    except OSError as error:
        nbdkit.set_error(error.errno or errno.EIO)
        raise


def close(disk: Disk) -> None:
    """Close the extent."""
    os.close(disk.descriptor)


def get_size(disk: Disk) -> int:
    """Return the capacity of the disk."""
    return disk.size


def block_size(_disk: Disk) -> tuple[int, int, int]:
    """Take whole sectors only, as VMware's library does."""
    return 512, 4096, 32 << 20


def can_write(disk: Disk) -> bool:
    """Tell that snapshots are read only."""
    return not disk.is_read_only


def can_multi_conn(_disk: Disk) -> bool:
    """Tell that connections see each other's writes: it is one file."""
    return True


def can_fua(_disk: Disk) -> int:
    """Let nbdkit flush after such a write."""
    return int(nbdkit.FUA_EMULATE)


def pread(disk: Disk, buffer: bytearray, offset: int, _flags: int) -> None:
    """Fill the buffer."""
    view = memoryview(buffer)
    while view:
        count = os.preadv(disk.descriptor, [view], offset)
        if count == 0:
            nbdkit.set_error(errno.EIO)
            raise RuntimeError(f"the extent ends at {offset}")
        view, offset = view[count:], offset + count


def pwrite(disk: Disk, buffer: bytes, offset: int, _flags: int) -> None:
    """Write the whole buffer."""
    view = memoryview(buffer)
    while view:
        count = os.pwrite(disk.descriptor, view, offset)
        view, offset = view[count:], offset + count


def flush(disk: Disk, _flags: int) -> None:
    """Bring the writes of all connections to stable storage."""
    os.fdatasync(disk.descriptor)


def zero(disk: Disk, count: int, offset: int, flags: int) -> None:
    """Make bytes read as zeros, as a hole where that is allowed and possible."""
    if flags & nbdkit.FLAG_MAY_TRIM and punch(disk, count, offset):
        return
    for start in range(0, count, len(ZEROS)):
        pwrite(disk, ZEROS[: min(len(ZEROS), count - start)], offset + start, 0)


def trim(disk: Disk, count: int, offset: int, _flags: int) -> None:
    """Give space back where that is possible; nobody is promised anything."""
    punch(disk, count, offset)


def can_extents(_disk: Disk) -> bool:
    """Tell that holes are known."""
    return True


def extents(disk: Disk, count: int, offset: int, _flags: int) -> Iterator[tuple[int, int, int]]:
    """Yield offset, length and kind of the runs from ``offset`` on."""
    position, end = offset, min(offset + count, disk.size)
    while position < end:
        start = min(seek(disk, position, os.SEEK_DATA), end)
        if start > position:
            yield position, start - position, nbdkit.EXTENT_HOLE | nbdkit.EXTENT_ZERO
        stop = min(seek(disk, start, os.SEEK_HOLE), end) if start < end else end
        if stop > start:
            yield start, stop - start, 0
        position = stop


def seek(disk: Disk, position: int, how: int) -> int:
    """Return where data or a hole begins; the end of the disk when none follows."""
    try:
        return os.lseek(disk.descriptor, position, how)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return disk.size


def punch(disk: Disk, count: int, offset: int) -> bool:
    """Make a hole; False where the file system cannot."""
    if libc.fallocate(disk.descriptor, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, offset, count) == 0:
        return True
    number = ctypes.get_errno()
    if number in {errno.EOPNOTSUPP, errno.ENOSYS}:
        return False
    raise OSError(number, os.strerror(number))


def read_password(value: str) -> str:
    """Return a password given as itself, as ``+FILE`` or as ``-DESCRIPTOR``."""
    if value.startswith("+"):
        return Path(value[1:]).read_text("utf-8").partition("\n")[0]
    if value.startswith("-"):
        with os.fdopen(int(value[1:]), encoding="utf-8") as stream:
            return stream.read().partition("\n")[0]
    return value


def ask(disk: dict[str, object]) -> dict[str, object]:
    """Return where the bytes of the disk are. Raises OSError with the vCenter's reason."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the thumbprint says whom we talk to
    server, port = parameters["server"], int(parameters.get("port", "443"))
    connection = http.client.HTTPSConnection(server, port, timeout=TIMEOUT_S, context=context)
    try:
        connection.connect()
        check_thumbprint(connection.sock)
        token = base64.b64encode(f"{parameters['user']}:{parameters['password']}".encode()).decode()
        headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        connection.request("POST", "/lab/disk", json.dumps(disk), headers)
        answer = connection.getresponse()
        content = json.load(answer)
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(errno.EIO, f"{server}:{port} answers nonsense: {error}") from error
    finally:
        connection.close()
    if answer.status != http.HTTPStatus.OK:
        raise OSError(ERRORS.get(http.HTTPStatus(answer.status), errno.EIO), str(content.get("error")))
    return dict(content)


def check_thumbprint(channel: ssl.SSLSocket) -> None:
    """Refuse another server before it learns the password."""
    certificate = channel.getpeercert(binary_form=True) or b""
    found = hashlib.sha1(certificate).hexdigest()  # noqa: S324 # VMware's library compares this digest
    if found != parameters["thumbprint"].replace(":", "").lower():
        raise OSError(errno.EACCES, f"the certificate has the thumbprint {found}")
