"""Machine files over a line: they are few and small, so each is one message."""

from collections.abc import Sequence

from holdfast.errors import LinkLost, ProtocolError
from holdfast.formats.mover import messages as m
from holdfast.model.machine_files import (
    FILES_PER_POINT_MAX,
    FILES_SIZE_MAX,
    FileLeftOut,
    MachineFile,
    MachineFiles,
)
from holdfast.mover.line import Line
from holdfast.mover.parting import part
from holdfast.mover.tracing import traceparent

_ANSWER_S = 600.0


def put_remote_files(line: Line, grant: str, files: MachineFiles) -> None:
    """Make these the machine files of an unfinished point. Raises what the other side failed with."""
    try:
        line.send(m.encode_message(m.OpenDisk(grant=grant, trace=traceparent())))
        send_files(line, MachineFiles(files=files.files))  # the other side keeps nothing of those that were left out
        line.send(m.encode_message(m.Finish()))
        receive_files(line, m.Finished)
    finally:
        part(line)


def read_remote_files(line: Line, grant: str) -> MachineFiles:
    """Return the machine files of a finished point. Raises what the other side failed with."""
    try:
        line.send(m.encode_message(m.OpenDisk(grant=grant, trace=traceparent())))
        return receive_files(line, m.Finished)
    finally:
        part(line)


def send_files(line: Line, files: MachineFiles) -> None:
    """Send files, and which could not be read."""
    for file in files.files:
        line.send(m.encode_message(m.KeptFile(name=file.name), file.content), _ANSWER_S)
    for lost in files.left_out:
        line.send(m.encode_message(m.LostFile(name=lost.name, reason=lost.reason[: m.TEXT_MAX])), _ANSWER_S)


def receive_files(line: Line, last: type[m.Head]) -> MachineFiles:
    """Return the files that come before the message of the kind ``last``. Raises what the other side failed with."""
    files: list[MachineFile] = []
    left_out: list[FileLeftOut] = []
    room = FILES_SIZE_MAX
    while True:
        message = line.receive(_ANSWER_S)
        if message is None:
            raise LinkLost("the other mover ended the session in the middle of machine files")
        head, body = m.decode_message(message.payload)
        match head:
            case m.KeptFile():
                room -= len(body)
                _check_room(room, files)
                files.append(MachineFile(name=head.name, content=bytes(body)))
            case m.LostFile():
                _check_room(room, left_out)
                left_out.append(FileLeftOut(name=head.name, reason=head.reason))
            case m.Failure():
                raise m.failed(head)
            case _:
                if not isinstance(head, last):
                    raise ProtocolError(f"{type(head).__name__} came while machine files were")
                line.release(message)
                return MachineFiles(files=tuple(files), left_out=tuple(left_out))
        line.release(message)


def _check_room(room: int, others: Sequence[object]) -> None:
    """Refuse a file for whose bytes, or beside those that came before, a restore point has no room."""
    if room < 0 or len(others) >= FILES_PER_POINT_MAX:
        raise ProtocolError("more machine files came than a restore point keeps")
