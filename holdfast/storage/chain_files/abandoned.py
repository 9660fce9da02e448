"""What a dead writer left behind its last commit: the data that has to be sent again."""

from holdfast.errors import DataDamaged, FormatUnknown
from holdfast.formats.magic import ALIGNMENT, RecordKind
from holdfast.formats.record import HEADER_SIZE, unpack_header
from holdfast.storage.files.atomic import FileHandle


def abandoned_bytes(handle: FileHandle, end: int) -> int:
    """Return how many bytes of disk the whole units behind ``end``, the end of the last commit, hold.

    Reads headers only, and stops at the first place where no record begins.
    """
    total, size = 0, handle.size()
    while end < size:
        try:
            header = unpack_header(handle.read(end, HEADER_SIZE))
        except (FormatUnknown, DataDamaged):
            break
        if header.kind == RecordKind.UNIT and end + header.length <= size:
            total += header.raw
        end += -(-header.length // ALIGNMENT) * ALIGNMENT
    return total
