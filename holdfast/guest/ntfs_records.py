"""Records of NTFS: the boot sector, fixups, attributes, and runs of clusters. Bytes in, values out."""

import struct
from collections.abc import Iterator

import msgspec

from holdfast.guest.window import Implausible

ATTRIBUTE_LIST = 0x20
FILE_NAME = 0x30
VOLUME_INFORMATION = 0x70
DATA = 0x80
INDEX_ROOT = 0x90
INDEX_ALLOCATION = 0xA0
BITMAP = 0xB0

_FIXUP_STRIDE = 512
_RECORD = struct.Struct("<HHH")
_IN_USE = 1
_END = 0xFFFFFFFF
_SIZES = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
_CLUSTER_MAX = 2 << 20
_PLAIN_FLAGS = 0
_NAME_AT = 66


class Boot(msgspec.Struct, frozen=True):
    """Measures of a volume, in bytes and clusters."""

    cluster: int
    clusters: int
    mft: int
    record: int
    index: int

    @classmethod
    def decode(cls, sector: bytes) -> "Boot":
        """Return what the boot sector says. Raises `Implausible`."""
        sector_size, per_cluster = struct.unpack_from("<HB", sector, 11)
        sectors, mft = struct.unpack_from("<QQ", sector, 40)
        per_record, per_index = struct.unpack_from("<b3xb", sector, 64)
        if sector_size not in (512, 1024, 2048, 4096) or sector[510:512] != b"\x55\xaa":
            raise Implausible("its boot sector is damaged")
        cluster = sector_size * (per_cluster if per_cluster <= 0x80 else 1 << min(256 - per_cluster, 31))
        if cluster & (cluster - 1) or not sector_size <= cluster <= _CLUSTER_MAX:
            raise Implausible("its cluster size is not possible")
        record, index = (_scaled(value, cluster) for value in (per_record, per_index))
        clusters = sectors * sector_size // cluster
        if record not in _SIZES[2:5] or index not in _SIZES or not 0 < mft < clusters:
            raise Implausible("its boot sector is damaged")
        return cls(cluster, clusters, mft, record, index)


class Attribute(msgspec.Struct, frozen=True):
    """One attribute, or one part of it."""

    kind: int
    name: str
    flags: int
    value: bytes | None
    """None when it is stored elsewhere; then the rest says where."""
    first: int = 0
    """Cluster of the attribute that ``runs`` begins with."""
    size: int = 0
    runs: tuple[tuple[int | None, int], ...] = ()
    """Clusters of the volume and how many; None where nothing is stored."""

    @property
    def is_plain(self) -> bool:
        """Return whether the bytes stand there as they are: not compressed, sparse or encrypted."""
        return self.flags == _PLAIN_FLAGS


class Record(msgspec.Struct, frozen=True):
    """A record of the file table that is in use."""

    sequence: int
    base: int
    attributes: tuple[Attribute, ...]

    def find(self, kind: int, name: str = "") -> Iterator[Attribute]:
        """Yield the attributes, or parts, of a kind and name."""
        return (found for found in self.attributes if (found.kind, found.name) == (kind, name))


def with_fixups(data: bytes, magic: bytes) -> bytes:
    """Return a record or index block with the ends of its sectors put back. Raises `Implausible`."""
    if data[:4] != magic:
        raise Implausible(f"it has {data[:4]!r} where {magic!r} should be")
    at, count = struct.unpack_from("<HH", data, 4)
    if (count - 1) * _FIXUP_STRIDE != len(data) or at + 2 * count > _FIXUP_STRIDE - 2:
        raise Implausible("the fixups of a record are damaged")
    mended = bytearray(data)
    for number in range(1, count):
        end = number * _FIXUP_STRIDE
        if data[end - 2 : end] != data[at : at + 2]:
            raise Implausible("a record was written in part only")
        mended[end - 2 : end] = data[at + 2 * number : at + 2 * number + 2]
    return bytes(mended)


def decode_record(data: bytes) -> Record:
    """Return a record of the file table. Raises `Implausible`, also when it is not in use."""
    data = with_fixups(data, b"FILE")
    sequence, _, at, flags = struct.unpack_from("<HHHH", data, 16)
    used, _, base = struct.unpack_from("<IIQ", data, 24)
    if not flags & _IN_USE or not 0 < used <= len(data):
        raise Implausible("a record of its file table is not in use")
    return Record(sequence, base & 0xFFFFFFFFFFFF, tuple(_attributes(data[:used], at)))


def _attributes(data: bytes, at: int) -> Iterator[Attribute]:
    while at + 4 <= len(data):
        kind = int.from_bytes(data[at : at + 4], "little")
        if kind == _END:
            return
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if not 24 <= length <= len(data) - at:
            break
        yield _attribute(kind, data[at : at + length])
        at += length
    raise Implausible("the attributes of a record are damaged")


def _attribute(kind: int, data: bytes) -> Attribute:
    is_elsewhere, name_length, name_at, flags = struct.unpack_from("<BBHH", data, 8)
    name = data[name_at : name_at + 2 * name_length].decode("utf-16-le", "replace")
    if not is_elsewhere:
        length, at = struct.unpack_from("<IH", data, 16)
        if at + length > len(data):
            raise Implausible("an attribute is longer than its record")
        return Attribute(kind, name, flags, data[at : at + length])
    if len(data) < 64:
        raise Implausible("an attribute is damaged")
    first, last, at = struct.unpack_from("<QQH", data, 16)
    size = int.from_bytes(data[48:56], "little") if first == 0 else 0
    runs = tuple(decode_runs(data[at:]))
    if sum(count for _, count in runs) != (last + 1 - first) % (1 << 64):
        raise Implausible("the runs of an attribute do not fit its length")
    return Attribute(kind, name, flags, None, first, size, runs)


def decode_runs(data: bytes) -> Iterator[tuple[int | None, int]]:
    """Yield where clusters are and how many. Raises `Implausible`."""
    at = cluster = 0
    while at < len(data) and data[at]:
        count_size, delta_size = data[at] & 15, data[at] >> 4
        end = at + 1 + count_size + delta_size
        if not 0 < count_size <= 8 or delta_size > 8 or end > len(data):
            raise Implausible("a list of runs is damaged")
        count = int.from_bytes(data[at + 1 : at + 1 + count_size], "little", signed=True)
        cluster += int.from_bytes(data[at + 1 + count_size : end], "little", signed=True)
        if count <= 0 or cluster < 0:
            raise Implausible("a list of runs is damaged")
        yield (cluster if delta_size else None), count
        at = end


def decode_list(data: bytes) -> Iterator[tuple[int, str, int, int]]:
    """Yield kind, name, first cluster and record of each entry of an attribute list. Raises `Implausible`."""
    at = 0
    while at + 26 <= len(data):
        kind, length, name_length, name_at, first, record = struct.unpack_from("<IHBBQQ", data, at)
        if length < 26:
            raise Implausible("an attribute list is damaged")
        name = data[at + name_at : at + name_at + 2 * name_length].decode("utf-16-le", "replace")
        yield kind, name, first, record & 0xFFFFFFFFFFFF
        at += length


def decode_entries(data: bytes) -> Iterator[tuple[int, int, str]]:
    """Yield record, sequence and name of the files in a part of a folder's index. Raises `Implausible`.

    ``data`` begins with the index header.
    """
    for reference, value in decode_index(data):
        yield reference & 0xFFFFFFFFFFFF, reference >> 48, file_name(value)[1]


def decode_index(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield reference and file name attribute of the files in a part of a folder's index. Raises `Implausible`."""
    at, end = struct.unpack_from("<II", data)
    while at + 16 <= min(end, len(data)):
        reference, length, key_length, flags = struct.unpack_from("<QHHH", data, at)
        if length < 16 or at + length > len(data):
            raise Implausible("an index of a folder is damaged")
        if flags & 2:
            return
        if key_length >= _NAME_AT:
            yield reference, data[at + 16 : at + 16 + key_length]
        at += length


def file_name(value: bytes) -> tuple[int, str]:
    """Return the record of the folder, and the name, that a file name attribute holds. Raises `Implausible`."""
    if len(value) < _NAME_AT:
        raise Implausible("a file name is damaged")
    parent = int.from_bytes(value[:6], "little")
    return parent, value[_NAME_AT : _NAME_AT + 2 * value[64]].decode("utf-16-le", "replace")


def _scaled(value: int, cluster: int) -> int:
    """Return a size that is stored as clusters, or as the negative logarithm of bytes."""
    return value * cluster if value > 0 else 1 << min(-value, 31)
