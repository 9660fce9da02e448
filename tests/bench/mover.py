"""What the link between two movers costs for each message, without sockets."""

import time
from statistics import median

from holdfast.formats.mover.events import LinkOptions
from holdfast.formats.mover.inbox import Message
from holdfast.formats.mover.link import Link
from holdfast.formats.mover.outbox import OutFrame
from tests.bench.ledger import MIB, Ledger

LINK = "The link between two movers, for each message"
SENDER, RECEIVER = "sender, without the checksum", "receiver, without the checksum"
_STREAMS = 5
_MESSAGES = 2000
_SMALL = 300
_GOAL_US = 20.0


def run_link(ledger: Ledger) -> None:
    """Send messages from memory to memory; note the time of both sides, acknowledgements included."""
    for _ in range(ledger.runs):
        sender_us, receiver_us = cost_us(_SMALL, _MESSAGES)
        ledger.add(LINK, SENDER, sender_us, "µs")
        ledger.add(LINK, RECEIVER, receiver_us, "µs")
        sender_us, receiver_us = cost_us(MIB, _MESSAGES // 10)
        ledger.add(LINK, "sender of 1 MiB", sender_us, "µs")
        ledger.add(LINK, "receiver of 1 MiB", receiver_us, "µs")
    for name in (SENDER, RECEIVER):
        ledger.set_goal(LINK, name, _GOAL_US)


def cost_us(length: int, messages: int) -> tuple[float, float]:
    """Return the median microseconds of sender and receiver for a message of ``length`` bytes, copying left out."""
    line = _Line()
    head, body = b"h" * 20, bytes(length - 20)
    spent = []
    for at in range(messages):
        line.spent_ns = [0, 0]
        line.send([head, body])
        line.move(0, at % _STREAMS)
        line.move(1, (at + 1) % _STREAMS)
        spent.append(line.spent_ns)
    sender, receiver = (median(each[side] for each in spent) / 1000 for side in (0, 1))
    return sender, receiver


class _Line:
    """Two links in one process; counts the time that each takes, and not what a network would do."""

    def __init__(self) -> None:
        options = LinkOptions(streams=_STREAMS)
        self.links = [Link(options, 0.0, is_dialler=side == 0) for side in (0, 1)]
        self.spent_ns = [0, 0]
        for connection in range(_STREAMS):
            for link in self.links:
                link.connection_made(connection, 0.0)
        for connection in range(_STREAMS):
            self.move(0, connection)
            self.move(1, connection)

    def send(self, parts: list[bytes]) -> None:
        started_ns = time.perf_counter_ns()
        self.links[0].send(OutFrame(parts))
        self.spent_ns[0] += time.perf_counter_ns() - started_ns

    def move(self, side: int, connection: int) -> None:
        """Bring over what one side sends on a connection."""
        started_ns = time.perf_counter_ns()
        parts = self.links[side].take_output(connection, 2 * MIB, 0.0)
        self.spent_ns[side] += time.perf_counter_ns() - started_ns
        for part in parts:
            rest = part
            while rest:
                rest = self._receive(1 - side, connection, rest)
        started_ns = time.perf_counter_ns()
        for event in self.links[1 - side].events():
            if isinstance(event, Message):
                self.links[1 - side].release(event)
        self.spent_ns[1 - side] += time.perf_counter_ns() - started_ns

    def _receive(self, side: int, connection: int, data: memoryview) -> memoryview:
        link = self.links[side]
        started_ns = time.perf_counter_ns()
        buffer = link.buffer_for(connection)
        asked_ns = time.perf_counter_ns()
        count = min(len(buffer), len(data))
        buffer[:count] = data[:count]
        copied_ns = time.perf_counter_ns()
        link.received(connection, count, 0.0)
        self.spent_ns[side] += asked_ns - started_ns + time.perf_counter_ns() - copied_ns
        return data[count:]
