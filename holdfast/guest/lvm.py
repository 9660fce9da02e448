"""Logical volumes of LVM2 that are plain runs of extents on the physical volume at hand.

Striped, mirrored, thin and cached ones, snapshots and what has snapshots are not looked into: bytes that the file
system of one volume calls free may be what another volume stands on.
"""

import struct
import zlib
from collections.abc import Iterator

from holdfast.guest.lvm_text import Section, Value, parse
from holdfast.guest.volume import Part
from holdfast.guest.window import SECTOR, Implausible, Window
from holdfast.model.spans import Span

_LABEL = struct.Struct("<8sQII8s")
_LABEL_CRC_FROM = 20
_CRC_START = 0xF597A6CF
_ID_SIZE = 32
_AREA = struct.Struct("<QQ")
_AREAS_MAX = 16
_METADATA = struct.Struct("<I16sIQQ")
_METADATA_MAGIC = b" LVM2 x[5A%r0N*>"
_METADATA_HEADER = 512
_LOCATION = struct.Struct("<QQII")
_IGNORED = 1
_TEXT_MAX = 4 << 20
_SEGMENTS_MAX = 4096


def volumes(physical: Window, place: str) -> Iterator[Part]:
    """Yield the logical volumes that have bytes on a physical volume. Raises `Implausible`."""
    identity, text = _metadata(physical)
    if not text:
        raise Implausible("its LVM metadata stands on another disk")
    for name, group in parse(text).items():
        if isinstance(group, dict):
            yield from _volumes_of(physical, (place, name, identity), group)


def _volumes_of(physical: Window, where: tuple[str, str, str], group: Section) -> Iterator[Part]:
    place, group_name, identity = where
    unit = _number(group, "extent_size") * SECTOR
    own = {name: pv for name, pv in _sections(group, "physical_volumes") if _id_of(pv) == identity}
    starts = {name: _number(pv, "pe_start") * SECTOR for name, pv in own.items()}
    logical = dict(_sections(group, "logical_volumes"))
    named = {text for lv in logical.values() for text in _texts_of_segments(lv)}
    for name, lv in logical.items():
        label = f"{place}, volume {group_name}/{name}"
        runs, obstacle = _runs(lv, starts, unit)
        if name in named:
            obstacle = "another logical volume stands on it"
        spans = tuple(place for run in runs for place in physical.places(run)) if runs else ()
        if runs or any(text in starts for text in _texts_of_segments(lv)):
            yield Part(place=label, spans=spans, obstacle=obstacle)


def _runs(lv: Section, starts: dict[str, int], unit: int) -> tuple[list[Span], str]:
    """Return where a logical volume is on the physical one, in its own order, and why it is not looked into."""
    segments = [value for _, value in _segments(lv)]
    segments.sort(key=lambda segment: _number(segment, "start_extent"))
    runs: list[Span] = []
    reached = 0
    for segment in segments:
        stripes = segment.get("stripes")
        if segment.get("type") != "striped" or not isinstance(stripes, list) or len(stripes) != 2:
            return runs, f"it is {segment.get('type')!s}, not a plain run"[:80]
        holder, first = stripes
        count = _number(segment, "extent_count")
        if _number(segment, "start_extent") != reached or not isinstance(first, int) or first < 0:
            raise Implausible("its LVM metadata contradicts itself")
        if not isinstance(holder, str) or holder not in starts:
            return runs, "parts of it lie on other disks"
        runs.append(Span(starts[holder] + first * unit, count * unit))
        reached += count
    return runs, ""


def _metadata(physical: Window) -> tuple[str, str]:
    """Return the id of the physical volume and the text of its metadata; no text when none stands on it."""
    at, header = _label(physical)
    identity = header[at : at + _ID_SIZE].decode("ascii", "replace")
    areas = _areas(header, at + _ID_SIZE + 8)
    next(areas)
    for start, _ in next(areas):
        text = _text(physical, start)
        if text:
            return identity, text
    return identity, ""


def _label(physical: Window) -> tuple[int, bytes]:
    for sector in range(4):
        header = physical.peek(sector * SECTOR, SECTOR)
        if len(header) < SECTOR:
            break
        magic, own, crc, at, kind = _LABEL.unpack_from(header)
        is_label = (magic, kind, own) == (b"LABELONE", b"LVM2 001", sector) and _crc(header[_LABEL_CRC_FROM:]) == crc
        if is_label and _LABEL.size <= at <= SECTOR - _ID_SIZE - 8:
            return at, header
    raise Implausible("its LVM label is damaged")


def _areas(header: bytes, at: int) -> Iterator[list[tuple[int, int]]]:
    """Yield the lists of areas of a header, data first and metadata next; each ends with zeros."""
    for _ in range(2):
        found: list[tuple[int, int]] = []
        while at + _AREA.size <= len(header) and len(found) < _AREAS_MAX:
            start, size = _AREA.unpack_from(header, at)
            at += _AREA.size
            if start == 0:
                break
            found.append((start, size))
        yield found


def _text(physical: Window, at: int) -> str:
    """Return the committed text of one metadata area; empty when it is not used."""
    header = physical.read(at, _METADATA_HEADER)
    crc, magic, version, start, size = _METADATA.unpack_from(header)
    if magic != _METADATA_MAGIC or version != 1 or start != at or _crc(header[4:]) != crc:
        raise Implausible("the header of its LVM metadata is damaged")
    offset, length, text_crc, flags = _LOCATION.unpack_from(header, _METADATA.size)
    if offset == 0 or flags & _IGNORED:
        return ""
    if not (_METADATA_HEADER <= offset < size and 0 < length <= min(size - _METADATA_HEADER, _TEXT_MAX)):
        raise Implausible("its LVM metadata lies outside of its area")
    # The area is a ring: what does not fit goes on behind the header.
    head = physical.read(at + offset, min(length, size - offset))
    text = head + physical.read(at + _METADATA_HEADER, length - len(head))
    if _crc(text) != text_crc:
        raise Implausible("its LVM metadata does not match its checksum")
    return text.rstrip(b"\0").decode("utf-8", "replace")


def _sections(section: Section, name: str) -> Iterator[tuple[str, Section]]:
    inner = section.get(name, {})
    if isinstance(inner, dict):
        yield from ((key, value) for key, value in inner.items() if isinstance(value, dict))


def _segments(lv: Section) -> Iterator[tuple[str, Section]]:
    found = [(key, value) for key, value in lv.items() if key.startswith("segment") and isinstance(value, dict)]
    if len(found) != _number(lv, "segment_count") or not 0 < len(found) <= _SEGMENTS_MAX:
        raise Implausible("its LVM metadata lacks segments")
    yield from found


def _texts_of_segments(lv: Section) -> Iterator[str]:
    """Yield every word that a segment names something with: physical volumes, and volumes that it stands on."""
    for _, segment in _segments(lv):
        for value in segment.values():
            yield from _texts(value)


def _texts(value: Value | Section) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        yield from (inner for inner in value if isinstance(inner, str))


def _id_of(pv: Section) -> str:
    return str(pv.get("id", "")).replace("-", "")


def _number(section: Section, key: str) -> int:
    value = section.get(key)
    if not isinstance(value, int) or value < 0:
        raise Implausible(f"its LVM metadata has no {key}")
    return value


def _crc(data: bytes) -> int:
    """Return LVM's checksum: the usual one with a start of its own, not inverted."""
    return zlib.crc32(data, _CRC_START ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
