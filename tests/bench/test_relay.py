"""What the relay of a long line does to packets."""

import random
import struct

import pytest

from tests.bench.relay import Packet, ip_sum

SEGMENT = 1448
IP, TCP = 20, 32


def packet(payload: bytes, segment: int = SEGMENT, flags: int = 0x18) -> bytes:
    """Return a packet as the kernel's offload makes them."""
    ip = bytearray(struct.pack(">BBHHHBBH4s4s", 0x45, 0, IP + TCP + len(payload), 7, 0, 64, 6, 0, b"near", b"far "))
    struct.pack_into(">H", ip, 10, ip_sum(bytes(ip)))
    tcp = struct.pack(">HHIIBBHHH12s", 1, 2, 1000, 0, TCP // 4 << 4, flags, 100, 0, 0, bytes(12))
    return struct.pack("<BBHHHH", 1, 1, IP + TCP, segment, IP, 16) + bytes(ip) + tcp + payload


def test_what_is_not_lost_is_the_packet_itself() -> None:
    data = packet(bytes(5 * SEGMENT + 1))
    found = Packet(data)
    assert found.segments == 6
    assert found.line_bytes == 6 * (IP + TCP) + 5 * SEGMENT + 1
    assert list(found.without([])) == [data]
    assert list(Packet(packet(b"", segment=0)).without([])) == [packet(b"", segment=0)]
    assert list(Packet(packet(b"", segment=0)).without([0])) == []


@pytest.mark.parametrize("seed", range(10))
def test_what_is_left_of_a_packet_carries_its_bytes_at_their_places(seed: int) -> None:
    rng = random.Random(seed)
    payload = rng.randbytes(rng.randrange(1, 40 * SEGMENT))
    whole = Packet(packet(payload))
    lost = sorted(rng.sample(range(whole.segments), rng.randrange(whole.segments)))
    expected = bytearray(payload)
    for number in lost:
        expected[number * SEGMENT : (number + 1) * SEGMENT] = bytes(len(payload[number * SEGMENT :][:SEGMENT]))
    found = bytearray(len(payload))
    for part in whole.without(lost):
        head, body = part[10 : 10 + IP + TCP], part[10 + IP + TCP :]
        assert ip_sum(head[:IP]) == 0
        assert struct.unpack_from(">H", head, 2) == (len(part) - 10,)
        (sequence,) = struct.unpack_from(">I", head, IP + 4)
        found[sequence - 1000 : sequence - 1000 + len(body)] = body
        assert (head[IP + 13] == 0x18) == (sequence - 1000 + len(body) == len(payload))
    assert found == expected
