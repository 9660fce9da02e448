"""A sink over a line behaves as one that is here, whatever the other side does."""

import socket
import threading
from collections.abc import Callable

import msgspec
import pytest

from holdfast.errors import HoldfastError, LinkLost, ProtocolError
from holdfast.formats.contents import LeftOut
from holdfast.formats.magic import Codec
from holdfast.formats.mover import messages as m
from holdfast.mover.line import Line
from holdfast.mover.remote_sink import RemoteSink
from holdfast.mover.server import MoverServer
from holdfast.pipeline.busy import PipeClocks
from holdfast.pipeline.sink import PackedUnit, WritableDisk
from tests.holdfast.mover.movers import CLOCK, MIB, SWIFT, Site, until

OPENED = m.DiskOpened(
    machine="x",
    size_bytes=4 * MIB,
    change_id=None,
    unit_size=256 << 10,
    digest_key=bytes(32),
    parent_size_bytes=None,
    parent_change_id=None,
    at_rest=False,
    parent_left_out=None,
)
STANDING = m.Standing(
    taken=0,
    committed=0,
    stored_bytes=0,
    transferred_bytes=0,
    read_bytes=0,
    resent_bytes=0,
    seal_s=0,
    target_s=0,
    commit_wait_s=0,
)
Talk = Callable[[Line], None]


def say(line: Line, head: m.AnyHead, body: bytes = b"") -> None:
    line.send(m.encode_message(head, *([body] if body else [])))


def hear(line: Line) -> m.AnyHead:
    message = line.receive(20)
    assert message is not None
    head, _ = m.decode_message(message.payload)
    line.release(message)
    return head


class Far:
    """A mover that says what a test wants."""

    def __init__(self, site: Site, talk: Talk) -> None:
        self._site, self._talk = site, talk

    def _serve(self, _: bytes, line: Line) -> None:
        hear(line)
        say(line, OPENED)
        say(line, STANDING)
        try:
            self._talk(line)
        except HoldfastError:
            return

    def __enter__(self) -> WritableDisk:
        site = self._site
        self._server = MoverServer(site.setting.options, None, site.issuer.token, self._serve, CLOCK)
        address = self._server.__enter__().address
        self._writable = RemoteSink.open(site.line(address, access := site.access(site.begin())), access.grant)
        return self._writable

    def __exit__(self, *_: object) -> None:
        self._writable.sink.close()
        self._server.__exit__()


def wrong_offer(line: Line) -> None:
    hear(line)
    say(line, m.Wanted(first=4, count=1, place=0), b"\x01")
    line.receive(20)


def too_many(line: Line) -> None:
    hear(line)
    say(line, m.Wanted(first=0, count=9, place=0), b"\x01\x00")
    line.receive(20)


def unasked(line: Line) -> None:
    say(line, m.Digests(first=0, count=1), bytes(16))
    line.receive(20)


def out_of_place(line: Line) -> None:
    say(line, m.Keep(until=1))
    line.receive(20)


def too_early(line: Line) -> None:
    say(line, m.Finished())
    line.finish()


@pytest.mark.parametrize("talk", [wrong_offer, too_many, unasked, out_of_place, too_early])
def test_an_answer_that_does_not_belong_to_a_question_ends_the_session(site: Site, talk: Talk) -> None:
    with Far(site, talk) as writable, pytest.raises(ProtocolError):
        writable.sink.offer(0, [bytes(16)]).result()


def test_a_disk_is_not_finished_while_an_offer_has_no_answer(site: Site) -> None:
    def unanswered(line: Line) -> None:
        hear(line)
        hear(line)
        too_early(line)

    with Far(site, unanswered) as writable:
        answer = writable.sink.offer(0, [bytes(16)])
        with pytest.raises(ProtocolError):
            writable.sink.finish()
        with pytest.raises(ProtocolError):
            answer.result()


@pytest.mark.parametrize("busy_s, expected_s", [(None, 3.5), (9.0, 9.0)])
def test_how_long_storing_was_busy_is_told_also_by_earlier_versions(
    site: Site, busy_s: float | None, expected_s: float
) -> None:
    def told(line: Line) -> None:
        hear(line)
        say(line, msgspec.structs.replace(STANDING, target_s=3, commit_wait_s=0.5, busy_s=busy_s, throttled_s=0.25))
        say(line, m.Finished())
        line.finish()

    busy = PipeClocks(CLOCK)
    with Far(site, told) as writable:
        writable.sink.watch(busy)
        writable.sink.finish()
    assert (busy.target.seconds, busy.throttled.seconds) == (expected_s, 0.25)
    assert busy.has_line
    assert busy.network.seconds > 0


def test_a_session_that_ends_early_is_a_lost_link_for_everybody_who_waits(site: Site) -> None:
    def end(line: Line) -> None:
        hear(line)
        line.finish()

    with Far(site, end) as writable:
        answer = writable.sink.offer(0, [bytes(16)])
        with pytest.raises(LinkLost, match="ended the session before the disk was finished"):
            answer.result()
        with pytest.raises(LinkLost):
            writable.sink.tend()


def test_a_failure_is_told_even_while_the_line_is_full(site: Site) -> None:
    def fail(line: Line) -> None:
        hear(line)
        say(line, m.Failure(code="repository-full", message="no space is left", hint="Free some."))
        line.finish()

    with Far(site, fail) as writable, pytest.raises(HoldfastError, match="no space is left") as caught:
        fill(writable)
    assert caught.value.code == "repository-full"


def fill(writable: WritableDisk) -> None:
    for number in range(2000):
        writable.sink.put(unit(number))


def unit(number: int) -> PackedUnit:
    return PackedUnit(
        number=number,
        pieces=[number],
        digests=[bytes(16)],
        codec=Codec.NONE,
        packed=bytes(64 << 10),
        body_crc=0,
    )


def test_closing_is_prompt_when_the_other_side_reads_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.mover.parting._FAREWELL_S", 0.5)
    go_on = threading.Event()

    def wait(_: Line) -> None:
        assert go_on.wait(60)

    with Far(site, wait) as writable:
        number = 0
        while vars(writable.sink)["_line"]._link.room > 70 << 10:
            writable.sink.put(unit(number))
            number += 1
        started_s = CLOCK.monotonic_s()
        writable.sink.close()
        assert CLOCK.monotonic_s() - started_s < 3
        go_on.set()


def test_closing_a_disk_that_is_not_finished_frees_the_file_at_once(site: Site) -> None:
    opened = site.begin()
    with site.server() as server:
        writable = site.sink(server.address, site.access(opened))
        writable.sink.zero(0, 8)
        started_s = CLOCK.monotonic_s()
        writable.sink.close()
        writable.sink.close()
        assert CLOCK.monotonic_s() - started_s < 2
        assert site.is_free(opened)


def test_a_peer_that_says_nothing_is_given_up(site: Site) -> None:
    site.setting.link = msgspec.structs.replace(SWIFT, give_up_s=0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = type(site.setting.options.address)("127.0.0.1", server.getsockname()[1])
        line = site.line(address, site.access(site.begin()))
        with pytest.raises(LinkLost, match=r"no connection for 0.5 s"):
            RemoteSink.open(line, "")
    until(lambda: not any(t.name == "mover-dial" for t in threading.enumerate()), "dialling ends")


def test_the_word_about_how_a_disk_is_read_goes_into_the_point(site: Site) -> None:
    opened = site.begin()
    with site.server() as server:
        writable = site.sink(server.address, site.access(opened))
        writable.sink.describe("as a whole", LeftOut(deleted=True))
        site.copy(writable, site.reader())
    site.finish(opened)
    with site.repository.open_chain(opened.chain, None) as chain:
        disk = chain.disk(1, "a").disk
    assert (disk.detail, disk.left_out) == ("as a whole", LeftOut(deleted=True))
