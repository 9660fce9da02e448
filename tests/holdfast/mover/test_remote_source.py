"""What a repository's mover must not answer ends a restore, and so does the end of its session."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from holdfast.errors import DataDamaged, HoldfastError, LinkLost, ProtocolError
from holdfast.formats.magic import Codec
from holdfast.formats.mover import messages as m
from holdfast.formats.mover.bodies import Run, pack_runs
from holdfast.mover.line import Line
from holdfast.mover.remote_source import RemoteSource
from holdfast.mover.server import MoverServer
from tests.holdfast.mover.movers import CLOCK, MIB, Site
from tests.holdfast.mover.test_remote_sink import hear, say

OPENED = m.StoredOpened(
    machine="x", size_bytes=4 * MIB, change_id=None, is_doubted=False, pieces_per_unit=(4,), digest_key=bytes(32)
)


def ask(site: Site, answer: Callable[[Line], None], question: Callable[[RemoteSource], object]) -> None:
    """Ask a mover that answers what a test wants."""

    def serve(_: bytes, line: Line) -> None:
        hear(line)
        say(line, OPENED)
        hear(line)
        answer(line)
        while line.receive() is not None:
            pass

    def quietly(session: bytes, line: Line) -> None:
        try:
            serve(session, line)
        except HoldfastError:
            return

    with MoverServer(site.setting.options, None, site.issuer.token, quietly, CLOCK) as server:
        access = site.reading("c", 1)
        source = RemoteSource.open(site.line(server.address, access), access.grant)
        try:
            question(source)
        finally:
            vars(source)["_line"].close()
            source.close()


def runs(*found: Run, first: int = 0) -> Callable[[Line], None]:
    return lambda line: say(line, m.Runs(first=first, count=len(found)), pack_runs(found))


@pytest.mark.parametrize(
    "answer, words",
    [
        (runs(Run(65, None, 0)), "came up to piece 65"),
        (runs(Run(1, 1, 0)), "lies in file 1 of 1"),
        (runs(first=0), "0 runs from piece 0"),
        (runs(Run(1, None, 0), first=3), "1 runs from piece 3"),
        (lambda line: say(line, m.Keep(until=1)), "Keep came while a disk was read"),
    ],
)
def test_runs_that_do_not_fit_are_refused(site: Site, answer: Callable[[Line], None], words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        ask(site, answer, lambda source: list(source.runs(0, 64)))


def unit(number: int) -> Callable[[Line], None]:
    head = m.StoredUnit(file=0, number=number, count=1, codec=Codec.NONE)
    return lambda line: say(line, head, bytes(16) + bytes(range(256)) * 256)


@pytest.mark.parametrize(
    "number, error, words",
    [(0, DataDamaged, "unit 0 of file 0: its pieces"), (7, ProtocolError, "unit 7 of file 0 came and was not")],
)
def test_a_unit_that_is_wrong_or_was_not_asked_for_is_refused(
    site: Site, number: int, error: type[HoldfastError], words: str
) -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(error, match=words):
        ask(site, unit(number), lambda source: source.fetch(0, 0, pool, bytes(32)).result())


def test_digests_of_another_page_are_refused(site: Site) -> None:
    def answer(line: Line) -> None:
        say(line, m.Digests(first=5, count=1), bytes(16))

    with pytest.raises(ProtocolError, match="1 digests from piece 5"):
        ask(site, answer, lambda source: source.piece_digests(0, 64))


def test_threads_that_compare_all_hear_that_the_session_has_ended(site: Site) -> None:
    errors: list[type[HoldfastError]] = []

    def compare(source: RemoteSource) -> None:
        try:
            source.piece_digests(0, 64)
        except HoldfastError as error:
            errors.append(type(error))

    def question(source: RemoteSource) -> None:
        with pytest.raises(LinkLost):
            list(source.runs(0, 64))
        for _ in range(2):
            thread = threading.Thread(target=compare, args=(source,), daemon=True)
            thread.start()
            thread.join(20)

    ask(site, lambda line: line.finish(), question)
    assert errors == [LinkLost, LinkLost]
