"""One connection to an NBD server, with one request under way at a time.

Errors are those of the operating system, as for a file: what the server reports is an `OSError` with its number and
message, a lost connection a `ConnectionError`, silence a `TimeoutError`. After the last two, and after a
`ProtocolViolated`, the connection is not usable any more; several threads use several connections.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from holdfast.clock import Clock, SystemClock
from holdfast.model.spans import Span, coalesce
from holdfast.providers.nbd import protocol
from holdfast.providers.nbd.handshake import shake_hands
from holdfast.providers.nbd.wire import Export, Wire

REQUEST_BYTES_MAX: Final = 2 << 20
"""Data per request. ESXi serves from a memory shared by all readers of a host; larger requests exhaust it."""
ZERO_BYTES_MAX: Final = 128 << 20
"""Bytes per request without data; a server that has to write the zeros itself still answers in time."""
STATUS_BYTES_MAX: Final = 1 << 30
"""Window of one question for the block status."""

_ZEROS: Final = memoryview(bytes(REQUEST_BYTES_MAX))
_DISC_TIMEOUT_S: Final = 1.0
_ERRORS_MAX: Final = 64
"""Error chunks in one reply."""
_ERRNO_MAX: Final = 4095
"""Linux has no higher one, and gives larger numbers no words."""


class Connection:
    """An open connection. The constructor connects, and raises OSError. Use from one thread at a time."""

    def __init__(self, export: Export, clock: Clock | None = None) -> None:
        self._cookie = 0
        self._is_usable = False
        self._head = bytearray(protocol.REPLY_HEAD_SIZE)
        self._head_view = memoryview(self._head)
        self._tail = bytearray(protocol.REPLY_TAIL_SIZE + protocol.OFFSET_SIZE)
        self._tail_view = memoryview(self._tail)
        self._wire = Wire(export, clock if clock is not None else SystemClock())
        try:
            self.about: Final = shake_hands(self._wire, export.name)
        except BaseException:
            self._wire.close()
            raise
        self._request_max = _request_max(self.about.blocks)
        self._is_usable = True

    @property
    def is_usable(self) -> bool:
        """Tell whether the server and we agree on what comes next."""
        return self._is_usable

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from ``offset``. Both are multiples of the server's minimum block size."""
        most = self._request_max
        if len(buffer) <= most:
            self._read(offset, buffer)
            return
        for start in range(0, len(buffer), most):
            self._read(offset + start, buffer[start : start + most])

    def write(self, offset: int, data: memoryview, flags: int = 0) -> None:
        """Write ``data`` at ``offset``; ``flags`` may be ``NBD_CMD_FLAG_FUA``."""
        for start in range(0, len(data), self._request_max):
            piece = data[start : start + self._request_max]
            self._request(protocol.NBD_CMD_WRITE, flags, Span(offset + start, len(piece)), piece)
            self._finish()

    def write_zeros(self, span: Span, flags: int = 0) -> None:
        """Make ``span`` read as zeros; without ``NBD_CMD_FLAG_NO_HOLE`` the server may make holes."""
        if self.about.can(protocol.NBD_FLAG_SEND_WRITE_ZEROES):
            self._command(protocol.NBD_CMD_WRITE_ZEROES, flags, span)
            return
        for offset in range(span.start, span.end, len(_ZEROS)):
            self.write(offset, _ZEROS[: min(len(_ZEROS), span.end - offset)], flags & protocol.NBD_CMD_FLAG_FUA)

    def trim(self, span: Span) -> None:
        """Tell that nobody needs the content of ``span``; only with ``NBD_FLAG_SEND_TRIM``."""
        self._command(protocol.NBD_CMD_TRIM, 0, span)

    def flush(self) -> None:
        """Return once everything that was answered before is on stable storage; only with ``NBD_FLAG_SEND_FLUSH``."""
        self._request(protocol.NBD_CMD_FLUSH, 0, Span(0, 0))
        self._finish()

    def block_status(self, span: Span) -> list[tuple[Span, int]]:
        """Return runs with their ``NBD_STATE_*`` from the start of ``span`` on: one at least, all inside it.

        Only with an ``allocation`` context. The runs may end before the span does; the caller asks again from there.
        """
        asked = Span(span.start, min(span.length, STATUS_BYTES_MAX))
        self._request(protocol.NBD_CMD_BLOCK_STATUS, 0, asked)
        found: list[tuple[int, int]] = []
        for reply in self._replies():
            if reply.kind != protocol.NBD_REPLY_TYPE_BLOCK_STATUS or found:
                raise self._violation(f"a reply of type {reply.kind} to a question for the block status")
            context, found = protocol.parse_block_status(self._receive_payload(reply.length))
            if context != self.about.allocation:
                raise self._violation(f"a block status of the context {context}, which nobody asked for")
        if not found:
            raise self._violation("no block status")
        return _runs_inside(found, asked)

    def close(self) -> None:
        """Take leave of the server if it still understands us. Idempotent."""
        if self._is_usable:
            self._is_usable = False
            self._wire.set_timeout(_DISC_TIMEOUT_S)
            with suppress(OSError):  # it is gone, which is what we want
                self._wire.send(protocol.encode_request(protocol.NBD_CMD_DISC, 0, self._cookie + 1, 0, 0))
        self._wire.close()

    def abort(self) -> None:
        """End the request under way with a `ConnectionError`; may be called from any thread."""
        self._wire.abort()

    def _request(self, command: int, flags: int, span: Span, data: memoryview | None = None) -> None:
        """Send a request. Until the last byte of its reply is here the connection counts as lost."""
        if not self._is_usable:
            raise ConnectionError("the connection broke earlier")
        self._is_usable = False
        self._cookie += 1
        self._wire.send(protocol.encode_request(command, flags, self._cookie, span.start, span.length), data)

    def _command(self, command: int, flags: int, span: Span) -> None:
        """Send requests without data for a span of any length."""
        for start in range(span.start, span.end, ZERO_BYTES_MAX):
            self._request(command, flags, Span(start, min(ZERO_BYTES_MAX, span.end - start)))
            self._finish()

    def _finish(self) -> None:
        """Receive the reply to a request that asks for nothing."""
        for reply in self._replies():
            raise self._violation(f"a reply of type {reply.kind} to a request that asks for no data")

    def _replies(self, *, is_read: bool = False) -> Iterator[protocol.Reply]:
        """Yield the chunks that carry something, whose payload the caller receives.

        The end comes with the last chunk; an error the server reported is raised then, when both sides know what
        comes next. The simple reply to a read that succeeded is yielded as a chunk without a kind.
        """
        failures: list[OSError] = []
        is_last = False
        while not is_last:
            reply = self._receive_reply()
            is_last = bool(reply.flags & protocol.NBD_REPLY_FLAG_DONE)
            failure = self._failure(reply)
            if failure is not None:
                failures.append(failure)
            elif reply.kind != protocol.NBD_REPLY_TYPE_NONE and (reply.kind is not None or is_read):
                yield reply
            if not is_last and (reply.kind == protocol.NBD_REPLY_TYPE_NONE or len(failures) > _ERRORS_MAX):
                raise self._violation("a reply that does not come to its end")
        self._is_usable = True
        if failures:
            raise failures[0]

    def _failure(self, reply: protocol.Reply) -> OSError | None:
        if reply.kind is None:
            return _server_error(reply.error, "") if reply.error else None
        if reply.kind & protocol.NBD_REPLY_TYPE_ERROR_BIT:
            return _server_error(*protocol.parse_error(self._receive_payload(reply.length)))
        return None

    def _read(self, offset: int, piece: memoryview) -> None:
        asked = Span(offset, len(piece))
        self._request(protocol.NBD_CMD_READ, 0, asked)
        filled: list[Span] = []
        left = len(piece)
        for reply in self._replies(is_read=True):
            span = self._receive_content(reply, asked, piece)
            left -= span.length
            filled.append(span)
            if left < 0:
                break
        # Chunks come in any order; that their lengths add up does not yet say that they leave no gap.
        if left or (len(filled) > 1 and list(coalesce(sorted(filled, key=_start))) != [asked]):
            raise self._violation(f"the reply to a read of {len(piece)} bytes covers not all, or some twice")

    def _receive_content(self, reply: protocol.Reply, asked: Span, piece: memoryview) -> Span:
        """Receive one chunk of a read to its place, and return the span it filled."""
        if reply.kind == protocol.NBD_REPLY_TYPE_OFFSET_DATA:
            span = self._checked(reply.offset, reply.length, asked)
            start = span.start - asked.start
            self._wire.receive(piece[start : start + span.length])
            return span
        if reply.kind == protocol.NBD_REPLY_TYPE_OFFSET_HOLE:
            span = self._checked(*protocol.parse_hole(self._receive_payload(reply.length)), asked)
            start = span.start - asked.start
            piece[start : start + span.length] = _ZEROS[: span.length]
            return span
        if reply.kind is None and not self.about.has_structured_replies:
            self._wire.receive(piece)
            return asked
        raise self._violation(f"a reply of type {reply.kind} to a read")

    def _checked(self, offset: int, length: int, asked: Span) -> Span:
        if length <= 0 or offset < asked.start or offset + length > asked.end:
            raise self._violation(f"{length} bytes at {offset} in reply to a read of {asked.length} at {asked.start}")
        return Span(offset, length)

    def _receive_reply(self) -> protocol.Reply:
        self._wire.receive(self._head_view)
        more = protocol.missing_head(self._head)
        if more:
            self._wire.receive(self._tail_view[:more])
            reply = protocol.parse_structured_reply(self._head, self._tail)
        else:
            reply = protocol.parse_simple_reply(self._head)
        if reply.cookie != self._cookie:
            raise self._violation(f"a reply to request {reply.cookie} while request {self._cookie} is under way")
        return reply

    def _receive_payload(self, length: int) -> bytes:
        if length > protocol.PAYLOAD_BYTES_MAX:
            raise self._violation(f"a chunk of {length} bytes")
        return self._wire.receive_bytes(length)

    def _violation(self, what: str) -> protocol.ProtocolViolated:
        self._is_usable = False
        return protocol.ProtocolViolated(f"the server broke the protocol: {what}")


def _request_max(blocks: protocol.BlockSizes) -> int:
    """Return how much data one request carries: a multiple of the minimum block size."""
    most = min(REQUEST_BYTES_MAX, blocks.maximum)
    return most // blocks.minimum * blocks.minimum


def _runs_inside(runs: list[tuple[int, int]], asked: Span) -> list[tuple[Span, int]]:
    """Place runs one behind the other from the start of ``asked``, and cut what reaches over its end."""
    placed: list[tuple[Span, int]] = []
    position = asked.start
    for length, state in runs:
        if position >= asked.end:
            break
        end = min(position + length, asked.end)
        placed.append((Span(position, end - position), state))
        position = end
    return placed


def _server_error(number: int, message: str) -> OSError:
    """Return what the server reports; numbers of the protocol are those of Linux."""
    words = message or (os.strerror(number) if number <= _ERRNO_MAX else f"error {number}")
    return OSError(number, f"the server reports: {words}")


def _start(span: Span) -> int:
    return span.start
