"""One connection: what servers answer, right and wrong, and what becomes of the connection."""

import errno
import random
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from holdfast.model.spans import Span
from holdfast.providers.nbd import protocol as nbd
from holdfast.providers.nbd.client import REQUEST_BYTES_MAX, STATUS_BYTES_MAX, ZERO_BYTES_MAX, Connection
from tests.holdfast.providers.nbd.conftest import Play, Serve
from tests.holdfast.providers.nbd.scripted import (
    CONTEXT,
    MIB,
    WRITER_FLAGS,
    Peer,
    Request,
    block_sizes,
    chunk,
    data,
    error,
    hole,
    simple,
    status,
)

Answer = Callable[[Request], bytes]


@contextmanager
def connected(
    play: Play,
    *answers: Answer,
    is_structured: bool = True,
    seen: list[Request] | None = None,
    timeout_s: float = 20.0,
    **greeting: object,
) -> Iterator[Connection]:
    """Connect to a server that gives these answers, then waits for the client to leave."""

    def script(peer: Peer) -> None:
        peer.greet(is_structured=is_structured, **greeting)  # type: ignore[arg-type]
        for answer in answers:
            request = peer.receive_request()
            if request.command == nbd.NBD_CMD_WRITE:
                peer.receive(request.length)
            if seen is not None:
                seen.append(request)
            peer.send(answer(request))
        peer.wait_until_client_leaves()

    connection = Connection(play(script).export(timeout_s))
    try:
        yield connection
    finally:
        connection.close()


def read(connection: Connection, offset: int, length: int) -> bytes:
    buffer = bytearray(b"?" * length)
    connection.read_into(offset, memoryview(buffer))
    return bytes(buffer)


def test_data_holes_and_order_do_not_matter(play: Play) -> None:
    def answer(r: Request) -> bytes:
        return (
            data(r.cookie, 5004, b"dddd", is_last=False)
            + hole(r.cookie, 5000, 4, is_last=False)
            + data(r.cookie, 5008, b"ee", is_last=False)
            + chunk(r.cookie, nbd.NBD_REPLY_TYPE_NONE)
        )

    with connected(play, answer, lambda r: data(r.cookie, 0, b"ab")) as connection:
        assert read(connection, 5000, 10) == b"\0\0\0\0ddddee"
        assert read(connection, 0, 2) == b"ab"
        assert connection.is_usable


def test_simple_replies_carry_data_when_nothing_else_was_agreed_on(play: Play) -> None:
    with connected(play, lambda r: simple(r.cookie) + b"ab", is_structured=False) as connection:
        assert read(connection, 0, 2) == b"ab"


@pytest.mark.parametrize(
    "answer, number, why",
    [
        (lambda r: error(r.cookie, errno.EIO, "bad sector 77"), errno.EIO, "the server reports: bad sector 77"),
        (lambda r: error(r.cookie, 0xFFFFFFFF), 0xFFFFFFFF, "the server reports: error 4294967295"),
        (lambda r: error(r.cookie, errno.ENOSPC), errno.ENOSPC, "No space left on device"),
        (lambda r: simple(r.cookie, errno.EPERM), errno.EPERM, "Operation not permitted"),
        (
            lambda r: data(r.cookie, 0, b"a", is_last=False) + error(r.cookie, errno.EIO, "the rest"),
            errno.EIO,
            "the rest",
        ),
        (
            lambda r: (
                chunk(r.cookie, nbd.NBD_REPLY_TYPE_ERROR_OFFSET, struct.pack(">IH1sQ", 5, 1, b"x", 1), is_last=False)
                + chunk(r.cookie, nbd.NBD_REPLY_TYPE_NONE)
            ),
            errno.EIO,
            "x",
        ),
        (lambda r: chunk(r.cookie, nbd.NBD_REPLY_TYPE_ERROR_BIT + 99, struct.pack(">IH", 22, 0)), errno.EINVAL, "Inv"),
    ],
)
def test_an_error_the_server_reports_leaves_the_connection_usable(
    play: Play, answer: Answer, number: int, why: str
) -> None:
    with connected(play, answer, lambda r: data(r.cookie, 0, b"ab")) as connection:
        with pytest.raises(OSError, match=why) as caught:
            read(connection, 0, 2)
        assert caught.value.errno == number
        assert read(connection, 0, 2) == b"ab"


@pytest.mark.parametrize(
    "answer",
    [
        lambda r: data(r.cookie + 1, 0, b"ab"),
        lambda r: simple(r.cookie - 1, 5),
        lambda _: b"\0" * 40,
        lambda r: simple(r.cookie) + b"ab",
        lambda r: chunk(r.cookie, nbd.NBD_REPLY_TYPE_NONE),
        lambda r: chunk(r.cookie, nbd.NBD_REPLY_TYPE_NONE, is_last=False),
        lambda r: chunk(r.cookie, 77, b"new"),
        lambda r: data(r.cookie, 0, b"a"),
        lambda r: data(r.cookie, 0, b"abc"),
        lambda r: data(r.cookie, 1, b"bc"),
        lambda r: data(r.cookie, 1 << 63, b"bc"),
        lambda r: data(r.cookie, 0, b""),
        lambda r: chunk(r.cookie, nbd.NBD_REPLY_TYPE_OFFSET_DATA, b"abc") + b"\0" * 9,
        lambda r: hole(r.cookie, 0, 0),
        lambda r: hole(r.cookie, 0, 3),
        lambda r: hole(r.cookie, 0, 1 << 31),
        lambda r: chunk(r.cookie, nbd.NBD_REPLY_TYPE_OFFSET_HOLE, b"\0" * 11),
        lambda r: data(r.cookie, 0, b"a", is_last=False) + data(r.cookie, 0, b"a"),
        lambda r: data(r.cookie, 0, b"ab", is_last=False) + data(r.cookie, 0, b"ab"),
        lambda r: status(r.cookie, (2, 0)),
        lambda r: chunk(r.cookie, nbd.NBD_REPLY_TYPE_ERROR, b"\0\0"),
        lambda r: chunk(r.cookie, nbd.NBD_REPLY_TYPE_ERROR)[:-4] + b"\x7f\xff\xff\xff",
        lambda r: error(r.cookie, 5, is_last=False) * 100,
    ],
)
def test_an_answer_that_breaks_the_protocol_ends_the_connection(play: Play, answer: Answer) -> None:
    with connected(play, answer) as connection:
        with pytest.raises(nbd.ProtocolViolated):
            read(connection, 0, 2)
        assert not connection.is_usable
        with pytest.raises(ConnectionError, match="broke earlier"):
            read(connection, 0, 2)


def test_a_server_that_dies_in_the_middle_of_a_reply_ends_the_connection(play: Play) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.send(data(peer.receive_request().cookie, 0, bytes(MIB))[: MIB // 2])

    connection = Connection(play(script).export())
    with pytest.raises(ConnectionResetError):
        read(connection, 0, MIB)
    assert not connection.is_usable
    connection.close()


def test_a_server_that_never_answers_is_left_in_time(play: Play) -> None:
    with connected(play, timeout_s=0.5) as connection:
        with pytest.raises(TimeoutError, match=r"within 0\.5 s"):
            read(connection, 0, 2)
        assert not connection.is_usable


def test_requests_respect_what_the_server_and_esxi_can_take(play: Play) -> None:
    seen: list[Request] = []

    def answer(r: Request) -> bytes:
        return hole(r.cookie, r.offset, r.length)

    with connected(play, *[answer] * 3, seen=seen) as connection:
        assert read(connection, MIB, 5 * MIB) == bytes(5 * MIB)
    assert [(r.offset, r.length) for r in seen] == [
        (MIB, REQUEST_BYTES_MAX),
        (MIB + REQUEST_BYTES_MAX, REQUEST_BYTES_MAX),
        (MIB + 2 * REQUEST_BYTES_MAX, MIB),
    ]


def test_a_server_with_small_requests_gets_whole_blocks(play: Play) -> None:
    seen: list[Request] = []
    infos = block_sizes(512, 4096, 5000)
    with connected(play, *[lambda r: simple(r.cookie)] * 3, seen=seen, infos=infos, flags=WRITER_FLAGS) as connection:
        connection.write(0, memoryview(bytes(10240)), nbd.NBD_CMD_FLAG_FUA)
    assert [(r.flags, r.offset, r.length) for r in seen] == [
        (nbd.NBD_CMD_FLAG_FUA, 0, 4608),
        (nbd.NBD_CMD_FLAG_FUA, 4608, 4608),
        (nbd.NBD_CMD_FLAG_FUA, 9216, 1024),
    ]


def test_zeros_are_written_where_the_server_cannot_make_them(play: Play) -> None:
    seen: list[Request] = []
    span = Span(0, REQUEST_BYTES_MAX + 512)
    with connected(play, *[lambda r: simple(r.cookie)] * 2, seen=seen, flags=WRITER_FLAGS) as connection:
        connection.write_zeros(span, nbd.NBD_CMD_FLAG_NO_HOLE)
    assert [(r.command, r.flags, r.length) for r in seen] == [
        (nbd.NBD_CMD_WRITE, 0, REQUEST_BYTES_MAX),
        (nbd.NBD_CMD_WRITE, 0, 512),
    ]


def test_zeros_trim_and_flush_are_single_commands(play: Play) -> None:
    seen: list[Request] = []
    flags = WRITER_FLAGS | nbd.NBD_FLAG_SEND_WRITE_ZEROES | nbd.NBD_FLAG_SEND_TRIM
    answers = [lambda r: simple(r.cookie)] * 3 + [lambda r: chunk(r.cookie, nbd.NBD_REPLY_TYPE_NONE)]
    with connected(play, *answers, seen=seen, flags=flags, size=1 << 30) as connection:
        connection.write_zeros(Span(512, ZERO_BYTES_MAX + 512))
        connection.trim(Span(0, 512))
        connection.flush()
    assert [(r.command, r.offset, r.length) for r in seen] == [
        (nbd.NBD_CMD_WRITE_ZEROES, 512, ZERO_BYTES_MAX),
        (nbd.NBD_CMD_WRITE_ZEROES, 512 + ZERO_BYTES_MAX, 512),
        (nbd.NBD_CMD_TRIM, 0, 512),
        (nbd.NBD_CMD_FLUSH, 0, 0),
    ]


def test_a_write_that_is_answered_with_data_ends_the_connection(play: Play) -> None:
    with connected(play, lambda r: data(r.cookie, 0, b"ab")) as connection:
        with pytest.raises(nbd.ProtocolViolated, match="asks for no data"):
            connection.write(0, memoryview(b"ab"))
        assert not connection.is_usable


def test_a_block_status_is_placed_and_cut_at_the_end_of_the_question(play: Play) -> None:
    seen: list[Request] = []
    with connected(play, lambda r: status(r.cookie, (4096, 3), (1 << 30, 0), (512, 1)), seen=seen) as connection:
        runs = connection.block_status(Span(MIB, 8192))
    assert runs == [(Span(MIB, 4096), 3), (Span(MIB + 4096, 4096), 0)]
    assert seen[0][1:] == (nbd.NBD_CMD_BLOCK_STATUS, seen[0].cookie, MIB, 8192)


def test_a_question_for_the_block_status_has_a_bound(play: Play) -> None:
    seen: list[Request] = []
    with connected(play, lambda r: status(r.cookie, (512, 0)), seen=seen, size=1 << 40) as connection:
        assert connection.block_status(Span(0, 1 << 40)) == [(Span(0, 512), 0)]
    assert seen[0].length == STATUS_BYTES_MAX


@pytest.mark.parametrize(
    "answer",
    [
        lambda r: status(r.cookie, (512, 0), context=CONTEXT + 1),
        lambda r: status(r.cookie, (512, 0), is_last=False) + status(r.cookie, (512, 0)),
        lambda r: status(r.cookie),
        lambda r: status(r.cookie, (0, 0)),
        lambda r: chunk(r.cookie, nbd.NBD_REPLY_TYPE_NONE),
        lambda r: simple(r.cookie),
        lambda r: data(r.cookie, 0, b"x"),
        lambda r: chunk(r.cookie, nbd.NBD_REPLY_TYPE_BLOCK_STATUS)[:-4] + struct.pack(">I", (16 << 20) + 4),
    ],
)
def test_a_block_status_that_makes_no_sense_ends_the_connection(play: Play, answer: Answer) -> None:
    with connected(play, answer) as connection:
        with pytest.raises(nbd.ProtocolViolated):
            connection.block_status(Span(0, 4096))
        assert not connection.is_usable


def test_whatever_a_server_sends_the_client_comes_to_an_end(play: Play, seed: int) -> None:
    chance = random.Random(seed)
    content = chance.randbytes(4096)

    def script(peer: Peer) -> None:
        peer.greet()
        reply = bytearray(
            data(1, 0, content[:1024], is_last=False)
            + hole(1, 1024, 1024, is_last=False)
            + data(1, 2048, content[2048:])
        )
        peer.receive_request()
        for _ in range(chance.randint(1, 3)):
            place = chance.choice((*range(30), *range(1052, 1120)))
            reply[place] = chance.randrange(256)
        peer.send(bytes(reply[: chance.choice((len(reply), chance.randrange(len(reply))))]))

    server = play(script)
    for _ in range(150):
        connection = Connection(server.export())
        with suppress(OSError):  # is an answer; any other error fails the test
            assert len(read(connection, 0, 4096)) == 4096
        connection.close()


@pytest.mark.tools("nbdkit")
def test_a_real_server_reads_back_what_was_written(serve: Serve, seed: int) -> None:
    chance = random.Random(seed)
    connection = Connection(serve("memory", size="16M", is_read_only=False).export)
    content = chance.randbytes(5 * MIB)
    connection.write(3 * MIB, memoryview(content))
    connection.write_zeros(Span(4 * MIB, MIB))
    connection.trim(Span(0, MIB))
    connection.flush()
    assert read(connection, 3 * MIB, 5 * MIB) == content[:MIB] + bytes(MIB) + content[2 * MIB :]
    connection.close()
    connection.close()


@pytest.mark.tools("nbdkit")
def test_a_real_server_without_structured_replies_is_read_too(serve: Serve) -> None:
    server = serve("--no-sr", "pattern", size="1M")
    connection = Connection(server.export)
    assert not connection.about.has_structured_replies
    assert read(connection, 4096, 16) == struct.pack(">QQ", 4096, 4104)
    connection.close()


@pytest.mark.tools("nbdkit")
def test_an_injected_error_of_a_real_server_is_reported(serve: Serve) -> None:
    connection = Connection(serve("memory", size="1M", filters=("error",), error_pread="EIO", error_rate="100%").export)
    with pytest.raises(OSError, match="Input/output error") as caught:
        read(connection, 0, 512)
    assert caught.value.errno == errno.EIO
    assert connection.is_usable
    connection.close()
