"""Messages come back as they were; whatever else comes is refused with one kind of error."""

import re
import tracemalloc
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from holdfast.errors import HoldfastError, ProtocolError, RepositoryFull
from holdfast.formats.contents import LeftOut
from holdfast.formats.magic import Codec
from holdfast.formats.mover.messages import (
    BODY_SIZE,
    HEAD_SIZE_MAX,
    TEXT_MAX,
    AnyHead,
    Cancel,
    Describe,
    DiskOpened,
    Failure,
    Head,
    Keep,
    Offer,
    Standing,
    Unit,
    decode_message,
    encode_message,
    failed,
    failure,
    pack_bitmap,
    unpack_bitmap,
)
from holdfast.formats.mover.wire import PAYLOAD_MAX
from tests.holdfast.formats.mover.samples import SAMPLES

every_sample = pytest.mark.parametrize("head, body", SAMPLES, ids=lambda value: type(value).__name__)


def joined(head: AnyHead, body: bytes) -> bytes:
    return b"".join(encode_message(head, body))


def with_head(members: object, body: bytes = b"") -> bytes:
    """Return a message with any head."""
    head = msgspec.msgpack.encode(members)
    return len(head).to_bytes(4, "little") + head + body


def test_there_is_a_sample_of_every_kind() -> None:
    assert [type(head) for head, _ in SAMPLES] == list(get_args(AnyHead))


@every_sample
def test_a_message_comes_back(head: AnyHead, body: bytes) -> None:
    found, rest = decode_message(joined(head, body))
    assert (found, bytes(rest)) == (head, body)


def test_the_body_is_part_of_the_payload() -> None:
    payload = bytearray(joined(*SAMPLES[5]))
    _, body = decode_message(payload)
    assert body.obj is payload
    packed = b"x" * 100
    assert encode_message(Unit(number=0, count=1, body_crc=7, codec=Codec.NONE), bytes(20), packed)[-1] is packed


def sizes_of(head: AnyHead, otherwise: int) -> tuple[int, int]:
    sizes = BODY_SIZE.get(type(head))
    return (otherwise, otherwise) if sizes is None else sizes(head)


def test_a_message_of_an_earlier_version_lacks_the_last_members() -> None:
    standing, _ = decode_message(with_head([36, 1, 1, 10, 20, 30, 0, 0.1, 0.2, 0.3]))
    assert isinstance(standing, Standing)
    assert (standing.commit_wait_s, standing.busy_s, standing.throttled_s) == (0.3, None, 0.0)
    later, _ = decode_message(with_head([36, 1, 1, 10, 20, 30, 0, 0.1, 0.2, 0.3, 4.0, 5.0, "what comes later"]))
    assert isinstance(later, Standing)
    assert (later.busy_s, later.throttled_s) == (4.0, 5.0)


@every_sample
def test_a_message_cut_short_is_refused_at_every_length(head: AnyHead, body: bytes) -> None:
    payload = joined(head, body)
    tail = len(body) - sizes_of(head, len(body))[0]  # what may have any length
    for length in range(len(payload) - tail):
        with pytest.raises(ProtocolError):
            decode_message(payload[:length])


@every_sample
def test_a_message_with_too_many_bytes_is_refused(head: AnyHead, body: bytes) -> None:
    extra = sizes_of(head, 0)[1] - len(body) + 1
    with pytest.raises(ProtocolError, match="has a body of"):
        decode_message(joined(head, body) + bytes(extra))
    with pytest.raises(ProtocolError, match="has a body of"):
        encode_message(head, body, bytes(extra))


def largest(kind: inspect.Type) -> Any:
    """Return what takes the most bytes of all that a member may be."""
    match kind:
        case inspect.VarTupleType():
            return [largest(kind.item_type)] * (kind.max_length or 0)
        case inspect.TupleType():
            return list(map(largest, kind.item_types))
        case inspect.UnionType():
            return max(map(largest, kind.types), key=lambda value: len(msgspec.msgpack.encode(value)))
        case inspect.StructType():
            return {field.encode_name: largest(field.type) for field in kind.fields}
        case _:
            return largest_single(kind)


def largest_single(kind: inspect.Type) -> Any:
    """Return the same of what has no parts."""
    match kind:
        case inspect.IntType():
            most = kind.le if kind.le is not None else (1 << 32) - 1 if kind.lt is None else kind.lt - 1
            return most - most % (kind.multiple_of or 1)
        case inspect.StrType():
            widest = "\U0001d11e"
            is_any = kind.pattern is None or re.search(kind.pattern, widest) is not None
            return (widest if is_any else "a") * (kind.max_length or 0)
        case inspect.BytesType():
            return bytes(kind.max_length or 0)
        case inspect.EnumType():
            return max(value.value for value in kind.cls)
        case inspect.FloatType():
            return 1.5
        case _:
            return None if isinstance(kind, inspect.NoneType) else True


def largest_message(kind: type[Head]) -> tuple[int, int]:
    """Return the longest head of a message that is allowed, and the length of its longest body."""
    found = inspect.type_info(kind)
    assert isinstance(found, inspect.StructType)
    members = [largest(field.type) for field in found.fields]
    head = msgspec.msgpack.Decoder(kind).decode(msgspec.msgpack.encode([found.tag, *members]))
    encoded = msgspec.msgpack.encode(head)
    return len(encoded), BODY_SIZE[kind](head)[1] if kind in BODY_SIZE else 0


@pytest.mark.parametrize("kind", get_args(AnyHead))
def test_whatever_is_allowed_fits_into_a_head_and_a_frame(kind: type[Head]) -> None:
    head, body = largest_message(kind)
    assert head <= HEAD_SIZE_MAX
    assert 4 + head + body <= PAYLOAD_MAX


def test_a_disk_that_lacks_a_thousand_spans_of_swap_may_be_described_at_length() -> None:
    spans = tuple((number * (9 << 30), number * (9 << 30) + (8 << 30)) for number in range(1024))
    head = Describe(detail="ä" * TEXT_MAX, left_out=LeftOut(swap=spans))
    assert decode_message(joined(head, b""))[0] == head


def test_a_head_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(ProtocolError, match="Cancel has a head of 2097158 bytes, 2097152 are allowed"):
        encode_message(Cancel(reason="x" * (HEAD_SIZE_MAX - 1)))


@pytest.mark.parametrize(
    "members",
    [
        [],
        [0],
        [200, 1],
        ["4", 1],
        [4],
        [4, -1],
        [4, 1 << 62],
        [4, "1"],
        [4, None],
        [3, 0, 0],
        [3, 0, 1025],
        [2, 0, (64 << 10) + 1],
        [1, ""],
        [1, "g" * 8193],
        [1, "{}", 5],
        [5, 7],
        [6, 1, 1, 3, 0],
        [6, 1, 65, 1, 0],
        [6, 1, 1, 1, 1 << 32],
        [38, "Not A Code", "m", "h"],
        [97, "web", 513, None, [], [16], bytes(32)],
        [97, "web", 512, None, [], [16], bytes(31)],
        [97, "web", 512, None, [], [65], bytes(32)],
        [36, 0, 0, 0, 0, 0, 0, -1.0, 0.0, 0.0],
        {"until": 3},
        7,
    ],
)
def test_a_head_with_a_wrong_member_is_refused(members: object) -> None:
    with pytest.raises(ProtocolError):
        decode_message(with_head(members))


def test_members_that_a_later_version_adds_are_passed_over() -> None:
    assert decode_message(with_head([4, 16, "more"]))[0] == Keep(until=16)


def test_members_with_a_default_may_be_absent() -> None:
    assert decode_message(with_head([9]))[0] == Cancel()


def test_a_unit_size_that_no_file_has_is_not_sent() -> None:
    opened = DiskOpened(
        machine="web",
        size_bytes=512,
        change_id=None,
        unit_size=5,
        digest_key=bytes(32),
        parent_size_bytes=None,
        parent_change_id=None,
        at_rest=False,
        parent_left_out=None,
    )
    with pytest.raises(ProtocolError, match="unit size 5"):
        encode_message(opened)


def test_a_head_that_is_too_long_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(ProtocolError, match="states a head of"):
        decode_message((HEAD_SIZE_MAX + 1).to_bytes(4, "little") + bytes(HEAD_SIZE_MAX + 1))


@given(st.binary(max_size=300))
def test_garbage_is_refused(data: bytes) -> None:
    framed = len(data).to_bytes(4, "little") + data
    for payload in (data, framed):
        try:
            decode_message(payload)
        except ProtocolError:
            continue


@given(st.sampled_from(SAMPLES), st.data())
def test_a_message_with_changed_bytes_decodes_or_is_refused(sample: tuple[AnyHead, bytes], data: st.DataObject) -> None:
    payload = bytearray(joined(*sample))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode_message(payload)
    except ProtocolError:
        return


@pytest.mark.parametrize(
    "head", [b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\x91" * 16000]
)
def test_no_stated_length_makes_a_decoder_allocate(head: bytes) -> None:
    payload = len(head).to_bytes(4, "little") + head
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            decode_message(payload)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@given(st.integers(1, 1024), st.data())
def test_wanted_pieces_come_back(count: int, data: st.DataObject) -> None:
    indexes = sorted(data.draw(st.sets(st.integers(0, count - 1))))
    assert unpack_bitmap(pack_bitmap(indexes, count), count) == indexes


def test_a_wanted_piece_behind_the_last_is_refused() -> None:
    with pytest.raises(ProtocolError, match="bits behind"):
        unpack_bitmap(b"\x08", 3)


def test_an_error_of_the_other_side_is_raised_as_what_it_was() -> None:
    told = failure(RepositoryFull("no space in cellar", hint="Free space."))
    found = failed(told)
    assert type(found) is RepositoryFull
    assert (found.message, found.hint) == ("no space in cellar", "Free space.")


def test_an_error_that_this_version_does_not_know_is_the_root_of_the_tree() -> None:
    found = failed(Failure(code="levitation-failed", message="m", hint="h"))
    assert type(found) is HoldfastError


def test_a_long_message_of_an_error_is_cut() -> None:
    told = failure(RepositoryFull("x" * 10_000, hint="y" * 10_000))
    assert (len(told.message), len(told.hint)) == (TEXT_MAX, TEXT_MAX)
    assert decode_message(joined(told, b""))[0] == told


def test_what_is_offered_has_as_many_digests_as_it_says() -> None:
    with pytest.raises(ProtocolError, match="Offer has a body of 16 bytes, 32 to 32"):
        encode_message(Offer(first=0, count=2), bytes(16))
