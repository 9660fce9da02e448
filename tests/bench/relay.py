"""A long line between two namespaces, for kernels without netem: packets pass through this process.

`python -m tests.bench.relay <LineShape as JSON> NEAR FAR` makes a TUN device in each of two namespaces, says ``up`` and
carries packets from one to the other until its input ends. Packets come as the kernel's offload makes them, up to 64
KiB long, so that Python keeps up with a gigabit; each counts and is lost by its segments of an ordinary MTU.
"""

import fcntl
import os
import random
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator

import msgspec

from holdfast.testing.images import find_program

_TUNSETIFF = 0x400454CA
_TUNSETOFFLOAD = 0x400454D0
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_TUN_F_CSUM, _TUN_F_TSO4 = 0x01, 0x02
_OFFLOAD_HEADER = struct.Struct("<BBHHHH")  # flags, kind, headers, segment, checksum's start and offset
_PACKET_MAX = 65600 + _OFFLOAD_HEADER.size
_IP_LENGTH, _IP_SUM, _TCP_SEQUENCE, _TCP_LENGTH, _TCP_FLAGS = 2, 10, 4, 12, 13
_FIN_PSH = 0x09
_TCP = 6
_SLEEP_MIN_S = 0.0002


class LineShape(msgspec.Struct, frozen=True, kw_only=True):
    """What a line is like, the same in both directions."""

    round_trip_s: float = 0.15
    bits_per_s: float = 1e9
    loss: float = 0.001
    """Part of the segments that are lost."""
    queue_s: float = 0.1
    """What waits longer than that to be sent is dropped."""

    @property
    def mib_per_s(self) -> float:
        """Return the rate in MiB/s, headers of packets included."""
        return self.bits_per_s / 8 / (1 << 20)


class Packet:
    """A packet with the header of the kernel's offload before it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.segment: int = _OFFLOAD_HEADER.unpack_from(data)[3]
        ip = _OFFLOAD_HEADER.size
        self.headers = len(data)
        if self.segment and data[ip + 9] == _TCP:
            tcp = ip + (data[ip] & 15) * 4
            self.headers = tcp + (data[tcp + _TCP_LENGTH] >> 4) * 4
        self.segments = max(1, -(-(len(data) - self.headers) // self.segment)) if self.segment else 1

    @property
    def line_bytes(self) -> int:
        """Return what it takes of the line: its payload, and headers for each segment."""
        headers = self.headers - _OFFLOAD_HEADER.size
        return headers * self.segments + len(self.data) - self.headers

    def without(self, lost: list[int]) -> Iterator[bytes]:
        """Yield what is left when segments are lost."""
        first = 0
        for number in (*lost, self.segments):
            if number > first:
                yield self._part(first, number)
            first = number + 1

    def _part(self, first: int, end: int) -> bytes:
        if (first, end) == (0, self.segments):
            return self.data
        payload = self.data[self.headers + first * self.segment : self.headers + end * self.segment]
        head = bytearray(self.data[: self.headers])
        ip = _OFFLOAD_HEADER.size
        tcp = ip + (head[ip] & 15) * 4
        struct.pack_into(">H", head, ip + _IP_LENGTH, self.headers - ip + len(payload))
        struct.pack_into(">H", head, ip + _IP_SUM, 0)
        struct.pack_into(">H", head, ip + _IP_SUM, ip_sum(bytes(head[ip:tcp])))
        (sequence,) = struct.unpack_from(">I", head, tcp + _TCP_SEQUENCE)
        struct.pack_into(">I", head, tcp + _TCP_SEQUENCE, (sequence + first * self.segment) & 0xFFFFFFFF)
        if end < self.segments:
            head[tcp + _TCP_FLAGS] &= ~_FIN_PSH
        return bytes(head) + payload


def ip_sum(header: bytes) -> int:
    """Return the checksum of an IP header whose checksum field is zero."""
    total: int = sum(struct.unpack(f">{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


class Direction:
    """Carries packets one way: a thread takes them in, another gives them out when they are due."""

    def __init__(self, source: int, target: int, shape: LineShape) -> None:
        self._source = source
        self._target = target
        self._shape = shape
        self._rng = random.Random(1)
        self._free_s = 0.0
        self._queue: deque[tuple[float, bytes]] = deque()
        self._arrived = threading.Condition()

    def start(self) -> None:
        """Begin; the threads end with the process."""
        for work in (self._take, self._give):
            threading.Thread(target=work, daemon=True).start()

    def _take(self) -> None:
        per_byte_s, delay_s = 8 / self._shape.bits_per_s, self._shape.round_trip_s / 2
        while True:
            packet = Packet(os.read(self._source, _PACKET_MAX))
            now_s = time.monotonic()
            if self._free_s - now_s > self._shape.queue_s:
                continue
            self._free_s = max(now_s, self._free_s) + packet.line_bytes * per_byte_s
            lost = [at for at in range(packet.segments) if self._shape.loss and self._rng.random() < self._shape.loss]
            with self._arrived:
                self._queue.extend((self._free_s + delay_s, part) for part in packet.without(lost))
                self._arrived.notify()

    def _give(self) -> None:
        pause = threading.Event()
        while True:
            with self._arrived:
                while not self._queue:
                    self._arrived.wait()
                due_s, data = self._queue.popleft()
            wait_s = due_s - time.monotonic()
            if wait_s > _SLEEP_MIN_S:
                pause.wait(wait_s)
            os.write(self._target, data)


def tun(name: str, namespace: str, address: str, peer: str) -> int:
    """Make a TUN device in a namespace; return its descriptor."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR))
    fcntl.ioctl(descriptor, _TUNSETOFFLOAD, _TUN_F_CSUM | _TUN_F_TSO4)
    ip = find_program("ip")
    for words in (
        ("link", "set", name, "netns", namespace),
        ("-n", namespace, "addr", "add", address, "peer", peer, "dev", name),
        ("-n", namespace, "link", "set", name, "txqueuelen", "5000", "up"),
    ):
        subprocess.run([ip, *words], check=True)
    return descriptor


def main(words: list[str]) -> None:
    """Carry packets until the input ends."""
    shape = msgspec.json.decode(words[0], type=LineShape)
    ends = [tun(f"hf{os.getpid()}{side}", words[1 + side], *words[3:][:: 1 - 2 * side]) for side in (0, 1)]
    sys.stdout.write("up\n")
    sys.stdout.flush()
    if os.fork():  # each direction is a process, for Python's sake
        Direction(ends[0], ends[1], shape).start()
        sys.stdin.read()
    else:
        Direction(ends[1], ends[0], shape).start()
        sys.stdin.read()
        os._exit(0)
    os.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
