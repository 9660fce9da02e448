"""Folders and files of NTFS: names from the indexes of folders, and the clusters of plain files."""

from collections.abc import Iterator

from holdfast.guest.file_tree import Entry, Extent, Kind, spans_of
from holdfast.guest.ntfs import Ntfs
from holdfast.guest.ntfs_records import DATA, FILE_NAME, file_name
from holdfast.model.spans import Span

_ROOT = 5
_FIRST_OF_GUEST = 24
"""Records before this one hold the file system itself."""
_RECORD_MASK = 0xFFFFFFFFFFFF
_SEQUENCE_MASK = 0xFFFF
_FOLDER_SHIFT = 64
_NAMESPACE_AT, _FLAGS_AT = 65, 56
_SHORT_NAME = 2
_IS_FOLDER, _LEADS_ELSEWHERE = 0x10000000, 0x400


class NtfsFiles:
    """The files of one volume; see `holdfast.guest.file_tree.FileTree`.

    A node is the reference of a record with its sequence number, and above it the record of the folder.
    """

    root = _ROOT
    is_caseless = True

    def __init__(self, volume: Ntfs) -> None:
        self._ntfs = volume

    def entries(self, folder: int) -> Iterator[Entry]:
        """Yield what is in a folder, under its long names."""
        number = folder & _RECORD_MASK
        if folder != _ROOT and self._ntfs.record(number).sequence != folder >> 48 & _SEQUENCE_MASK:
            return
        for reference, value in self._ntfs.index(number):
            parent, name = file_name(value)
            if parent != number or value[_NAMESPACE_AT] == _SHORT_NAME or reference & _RECORD_MASK < _FIRST_OF_GUEST:
                continue
            yield Entry(name, number << _FOLDER_SHIFT | reference, _kind(value))

    def content(self, entry: Entry, *, is_gapless: bool = False) -> list[Span]:
        """Return where the bytes of a file are; see `holdfast.guest.file_tree.FileTree`."""
        number, folder = entry.node & _RECORD_MASK, entry.node >> _FOLDER_SHIFT
        if self._ntfs.record(number).sequence != entry.node >> 48 & _SEQUENCE_MASK:
            return []
        values = [found.value for found in self._ntfs.parts(number, FILE_NAME) if found.value is not None]
        names = [file_name(value) for value in values if value[_NAMESPACE_AT] != _SHORT_NAME]
        if names != [(folder, entry.name)] or {file_name(value)[0] for value in values} != {folder}:
            return []
        parts = list(self._ntfs.parts(number, DATA))
        if not parts or any(part.value is not None or not part.is_plain for part in parts):
            return []
        clusters = [extent for part in self._ntfs.whole(number, DATA) for extent in self._ntfs.extents(part)]
        self._ntfs.check_used([Span(lcn, count) for _, lcn, count in clusters])
        boot = self._ntfs.boot
        return spans_of((Extent(*run) for run in clusters), boot.cluster, boot.clusters, is_gapless=is_gapless)


def _kind(value: bytes) -> Kind:
    flags = int.from_bytes(value[_FLAGS_AT : _FLAGS_AT + 4], "little")
    if flags & _LEADS_ELSEWHERE:
        return Kind.OTHER
    return Kind.FOLDER if flags & _IS_FOLDER else Kind.FILE
