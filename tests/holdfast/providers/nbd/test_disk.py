"""A disk over NBD, read and written through nbdkit, and through servers that let us down."""

import os
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from holdfast.errors import DiskReadFailed, DiskWriteFailed, HoldfastError
from holdfast.model.spans import Span
from holdfast.pipeline.disks import DiskReader, DiskWriter
from holdfast.providers.nbd import protocol as nbd
from holdfast.providers.nbd.disk import NbdDisk, NbdOptions
from holdfast.providers.nbd.wire import Export
from holdfast.testing.disks import PatternedDisk
from tests.holdfast.providers.nbd.conftest import Play, Serve
from tests.holdfast.providers.nbd.scripted import (
    READER_FLAGS,
    SIZE,
    WRITER_FLAGS,
    Peer,
    Request,
    data,
    error,
    simple,
    status,
)

MIB = 1 << 20
WRITABLE = NbdOptions(is_writable=True)
Call = Callable[[], None]


def read(disk: DiskReader | DiskWriter, offset: int, length: int) -> bytes:
    buffer = bytearray(b"?" * length)
    disk.read_into(offset, memoryview(buffer))
    return bytes(buffer)


def image(folder: Path, size: int, *pieces: tuple[int, bytes]) -> Path:
    file = folder / "disk.raw"
    with file.open("wb") as stream:
        stream.truncate(size)
        for offset, content in pieces:
            stream.seek(offset)
            stream.write(content)
    return file


@pytest.mark.tools("nbdkit")
def test_a_file_is_read_where_it_has_data(serve: Serve, tmp_path: Path) -> None:
    file = image(tmp_path, 64 * MIB, (MIB, b"a" * MIB), (3 * MIB, b"b" * 4096), (64 * MIB - 512, b"c" * 512))
    with NbdDisk(serve("file", file=str(file)).export) as disk:
        assert disk.size_bytes == 64 * MIB
        assert disk.connections == 4
        spans = list(disk.allocated_spans())
        assert spans[:2] == [Span(MIB, MIB), Span(3 * MIB, 4096)]
        assert spans[2].end == 64 * MIB
        assert read(disk, 2 * MIB - 2, 4) == b"aa\0\0"
        assert read(disk, 64 * MIB - 512, 512) == b"c" * 512
        assert read(disk, 5, 0) == b""


@pytest.mark.tools("nbdkit")
def test_a_disk_larger_than_one_window_is_listed_whole(serve: Serve, tmp_path: Path) -> None:
    gib = 1 << 30
    places = [0, 2 * gib - 4096, 2 * gib, 5 * gib + 65536]
    file = image(tmp_path, 9 * gib, *[(place, b"x" * 4096) for place in places])
    with NbdDisk(serve("file", file=str(file)).export) as disk:
        assert list(disk.allocated_spans()) == [
            Span(0, 4096),
            Span(2 * gib - 4096, 8192),
            Span(5 * gib + 65536, 4096),
        ]


@pytest.mark.tools("nbdkit")
def test_a_server_without_coherence_gets_one_connection_at_a_time(serve: Serve) -> None:
    server = serve("memory", size="1M", filters=("multi-conn",), multi_conn_mode="disable")
    with NbdDisk(server.export) as disk, ThreadPoolExecutor(4) as threads:
        assert disk.connections == 1
        assert list(threads.map(lambda at: read(disk, at * 512, 512), range(100))) == [bytes(512)] * 100


@pytest.mark.tools("nbdkit")
def test_a_filter_gives_coherence_to_a_plugin_without(serve: Serve, seed: int) -> None:
    server = serve(
        "eval",
        is_read_only=False,
        filters=("multi-conn",),
        multi_conn_mode="emulate",
        get_size="echo 1048576",
        pread="head -c $3 /dev/zero",
        pwrite="cat >/dev/null",
        flush="exit 0",
        can_write="exit 0",
        can_flush="exit 0",
    )
    with NbdDisk(server.export, WRITABLE) as disk:
        assert disk.connections == 4
        disk.write(0, memoryview(random.Random(seed).randbytes(512)))
        disk.flush()


@pytest.mark.tools("nbdkit")
def test_what_was_written_and_zeroed_is_read_back(serve: Serve, tmp_path: Path, seed: int) -> None:
    file = image(tmp_path, 32 * MIB)
    expected = PatternedDisk(seed % 2**32, 32 * MIB)
    chance = random.Random(seed)
    with NbdDisk(serve("file", file=str(file), is_read_only=False).export, WRITABLE) as disk:
        for _ in range(40):
            start = chance.randrange(0, 30 * MIB, 512)
            span = Span(start, chance.randrange(512, 2 * MIB, 512))
            if chance.random() < 0.3:
                expected.zero(span)
                disk.write_zeros(span)
            else:
                disk.write(span.start, memoryview(expected.write(span)))
        disk.flush()
        for offset in range(0, 32 * MIB, 4 * MIB):
            assert expected.difference(offset, read(disk, offset, 4 * MIB)) is None
        allocated = list(disk.allocated_spans())
    assert expected.difference(0, file.read_bytes()) is None
    assert sum(span.length for span in allocated) < 32 * MIB


@pytest.mark.tools("nbdkit")
def test_several_threads_write_at_once_and_one_flush_covers_them(serve: Serve, seed: int) -> None:
    expected = PatternedDisk(seed % 2**32, 64 * MIB)
    pieces = [(offset, expected.write(Span(offset, MIB))) for offset in range(0, 64 * MIB, MIB)]
    export = serve("memory", size="64M", is_read_only=False).export
    with NbdDisk(export, WRITABLE) as disk, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda piece: disk.write(piece[0], memoryview(piece[1])), pieces))
        disk.flush()
        found = threads.map(lambda piece: expected.difference(piece[0], read(disk, piece[0], MIB)), pieces)
        assert list(found) == [None] * 64


@pytest.mark.tools("nbdkit")
def test_a_server_behind_a_server_is_read(serve: Serve) -> None:
    inner = serve("pattern", size="1M")
    outer = serve("nbd", socket=str(inner.socket_path))
    with NbdDisk(outer.export) as disk:
        assert read(disk, 4096, 8) == (4096).to_bytes(8, "big")


@pytest.mark.tools("nbdkit")
def test_bytes_between_the_blocks_of_a_server_are_read(serve: Serve) -> None:
    filters = ("blocksize-policy",)
    policy = {"blocksize_minimum": "4K", "blocksize_error_policy": "error"}
    with NbdDisk(serve("pattern", size="1M", filters=filters, **policy).export) as disk:
        assert read(disk, 4090, 14)[6:] == (4096).to_bytes(8, "big")
        assert read(disk, MIB - 8, 8) == (MIB - 8).to_bytes(8, "big")


@pytest.mark.tools("nbdkit")
def test_a_write_between_the_blocks_of_a_server_is_refused(serve: Serve) -> None:
    filters = ("blocksize-policy",)
    server = serve("memory", size="1M", is_read_only=False, filters=filters, blocksize_minimum="4K")
    with (
        NbdDisk(server.export, WRITABLE) as disk,
        pytest.raises(DiskWriteFailed, match="takes only blocks of 4096 bytes"),
    ):
        disk.write(512, memoryview(bytes(4096)))


@pytest.mark.tools("nbdkit")
def test_a_read_only_server_is_refused_for_writing(serve: Serve) -> None:
    with pytest.raises(DiskWriteFailed, match="lets nobody write"):
        NbdDisk(serve("memory", size="1M").export, WRITABLE)


@pytest.mark.tools("nbdkit")
def test_a_disk_opened_for_reading_is_not_written(serve: Serve) -> None:
    with NbdDisk(serve("memory", size="1M", is_read_only=False).export) as disk:
        calls: list[Call] = [
            lambda: disk.write(0, memoryview(b"x")),
            lambda: disk.write_zeros(Span(0, 1)),
            disk.flush,
        ]
        for call in calls:
            with pytest.raises(DiskWriteFailed, match="opened for reading"):
                call()


@pytest.mark.tools("nbdkit")
def test_nothing_happens_outside_the_disk(serve: Serve) -> None:
    with NbdDisk(serve("memory", size="1M", is_read_only=False).export, WRITABLE) as disk:
        for offset, length in ((-1, 1), (MIB, 1), (0, MIB + 1)):
            with pytest.raises(DiskReadFailed, match="the disk has 1048576 bytes"):
                read(disk, offset, length)
            with pytest.raises(DiskWriteFailed, match="the disk has 1048576 bytes"):
                disk.write(offset, memoryview(bytes(length)))
            with pytest.raises(DiskWriteFailed, match="the disk has 1048576 bytes"):
                disk.write_zeros(Span(offset, length))


@pytest.mark.tools("nbdkit")
def test_a_closed_disk_does_nothing_any_more(serve: Serve) -> None:
    disk = NbdDisk(serve("memory", size="1M", is_read_only=False).export, WRITABLE)
    disk.close()
    disk.close()
    with pytest.raises(DiskReadFailed, match="the disk is closed"):
        read(disk, 0, 512)
    with pytest.raises(DiskWriteFailed, match="the disk is closed"):
        disk.flush()
    with pytest.raises(DiskReadFailed, match="the disk is closed"):
        list(disk.allocated_spans())


@pytest.mark.tools("nbdkit")
def test_an_error_that_comes_and_goes_does_not_lose_the_disk(serve: Serve, tmp_path: Path) -> None:
    trigger = tmp_path / "trigger"
    server = serve(
        "memory", size="1M", is_read_only=False, filters=("error",), error_rate="100%", error_file=str(trigger)
    )
    trigger.touch()
    with NbdDisk(server.export, WRITABLE) as disk:
        with pytest.raises(DiskReadFailed, match=r"reading 512 bytes at offset 512 .*Input/output error"):
            read(disk, 512, 512)
        with pytest.raises(DiskWriteFailed, match=r"writing 512 bytes at offset 0 .*Input/output error"):
            disk.write(0, memoryview(bytes(512)))
        with pytest.raises(DiskWriteFailed, match=r"zeroing 512 bytes at offset 0 .*Input/output error"):
            disk.write_zeros(Span(0, 512))
        with pytest.raises(DiskReadFailed, match=r"listing the spans from offset 0 .*Input/output error"):
            list(disk.allocated_spans())
        trigger.unlink()
        disk.write(0, memoryview(b"x" * 512))
        disk.flush()
        assert read(disk, 0, 512) == b"x" * 512


@pytest.mark.tools("nbdkit")
def test_a_slow_server_is_left_in_time(serve: Serve) -> None:
    server = serve("memory", size="1M", filters=("delay",), delay_read="30")
    export = Export(address=server.socket_path, timeout_s=1.5)
    with NbdDisk(export) as disk, pytest.raises(DiskReadFailed, match=r"did not answer within 1\.5 s"):
        read(disk, 0, 512)


@pytest.mark.tools("nbdkit")
def test_a_server_that_was_killed_fails_reads_and_takes_all_trust_from_writes(serve: Serve) -> None:
    server = serve("memory", size="1M", is_read_only=False)
    with NbdDisk(server.export, WRITABLE) as disk, NbdDisk(server.export) as reader:
        disk.write(0, memoryview(bytes(512)))
        assert server.pid is not None
        os.kill(server.pid, 9)
        with pytest.raises(DiskReadFailed) as caught:
            read(reader, 0, 512)
        assert caught.value.retryable
        with pytest.raises(DiskWriteFailed):
            disk.write(512, memoryview(bytes(512)))
        with pytest.raises(DiskWriteFailed, match="may be lost"):
            disk.flush()


def test_a_reader_goes_on_with_a_new_connection_after_one_broke(play: Play) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        while server.accepted > 1:
            request = peer.receive_request()
            peer.send(data(request.cookie, request.offset, bytes(request.length)))

    server = play(script)
    with NbdDisk(server.export()) as disk:
        with pytest.raises(DiskReadFailed):
            read(disk, 0, 512)
        assert read(disk, 0, 512) == bytes(512)


def test_a_writer_does_not_trust_a_server_that_came_back(play: Play) -> None:
    def script(peer: Peer) -> None:
        peer.greet(flags=WRITER_FLAGS)
        request = peer.receive_request()
        peer.receive(request.length)

    server = play(script)
    with NbdDisk(server.export(), WRITABLE) as disk:
        for why in ("closed the connection", "may be lost", "may be lost"):
            with pytest.raises(DiskWriteFailed, match=why):
                disk.write(0, memoryview(bytes(512)))
    assert server.accepted == 1


def test_after_a_failed_flush_nothing_is_trusted(play: Play) -> None:
    def script(peer: Peer) -> None:
        peer.greet(flags=WRITER_FLAGS)
        peer.send(error(peer.receive_request().cookie, 5, "the journal is gone"))
        peer.wait_until_client_leaves()

    with NbdDisk(play(script).export(), WRITABLE) as disk:
        for call in (disk.flush, disk.flush, lambda: disk.write_zeros(Span(0, 512))):
            with pytest.raises(DiskWriteFailed, match="the journal is gone"):
                call()


def test_a_server_that_cannot_flush_makes_each_write_stable(play: Play) -> None:
    seen: list[Request] = []

    def script(peer: Peer) -> None:
        peer.greet(flags=nbd.NBD_FLAG_HAS_FLAGS | nbd.NBD_FLAG_SEND_FUA)
        for _ in range(2):
            request = peer.receive_request()
            peer.receive(request.length)
            seen.append(request)
            peer.send(simple(request.cookie))
        peer.wait_until_client_leaves()

    with NbdDisk(play(script).export(), WRITABLE) as disk:
        disk.write(0, memoryview(bytes(512)))
        disk.write_zeros(Span(512, 512))
        disk.flush()
    assert [(r.command, r.flags) for r in seen] == [(nbd.NBD_CMD_WRITE, nbd.NBD_CMD_FLAG_FUA)] * 2


@pytest.mark.parametrize(
    "greeting, kind, why",
    [
        ({"flags": nbd.NBD_FLAG_HAS_FLAGS}, DiskWriteFailed, "cannot bring anything to stable storage"),
        ({"flags": WRITER_FLAGS, "size": 513}, DiskWriteFailed, "no whole number of sectors"),
    ],
)
def test_a_server_that_cannot_hold_a_disk_is_refused(
    play: Play, greeting: dict[str, int], kind: type[HoldfastError], why: str
) -> None:
    server = play(lambda peer: peer.greet(**greeting))  # type: ignore[arg-type]
    with pytest.raises(kind, match=why):
        NbdDisk(server.export(), WRITABLE)


def test_a_server_that_cannot_tell_what_is_allocated_has_it_all(play: Play) -> None:
    with NbdDisk(play(lambda peer: peer.greet(is_structured=False)).export()) as disk:
        assert list(disk.allocated_spans()) == [Span(0, SIZE)]


def test_only_what_reads_as_zeros_is_left_out(play: Play) -> None:
    def script(peer: Peer) -> None:
        peer.greet(flags=READER_FLAGS)
        hole, zero = nbd.NBD_STATE_HOLE, nbd.NBD_STATE_ZERO
        runs = ((4096, 0), (4096, hole), (4096, zero), (4096, hole | zero), (512, 0))
        peer.send(status(peer.receive_request().cookie, *runs))
        peer.send(status(peer.receive_request().cookie, (4096, 0), (1 << 31, zero)))
        peer.wait_until_client_leaves()

    with NbdDisk(play(script).export()) as disk:
        assert list(disk.allocated_spans()) == [Span(0, 8192), Span(16384, 4608)]


def test_a_listing_that_breaks_off_is_an_error_and_not_an_end(play: Play) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.send(status(peer.receive_request().cookie, (4096, 0)))
        peer.receive_request()

    with NbdDisk(play(script).export()) as disk, pytest.raises(DiskReadFailed, match="from offset 4096"):
        list(disk.allocated_spans())


def test_nobody_listening_is_a_failed_read(tmp_path: Path) -> None:
    with pytest.raises(DiskReadFailed, match=r"opening nbd.*No such file") as caught:
        NbdDisk(Export(address=tmp_path / "none"))
    assert caught.value.retryable


def test_the_last_words_of_the_server_are_part_of_the_message(play: Play) -> None:
    server = play(lambda peer: peer.send(b"x"))
    with pytest.raises(DiskReadFailed, match=r"closed the connection \(login refused\)$"):
        NbdDisk(server.export(), last_words=lambda: "login refused")
