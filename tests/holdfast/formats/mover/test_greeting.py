"""Only who knows the token and is no late comer gets in, and no input breaks a greeting otherwise."""

import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import HoldfastError, LinkError, LinkRefused, ProtocolError, WriterFenced
from holdfast.formats.mover.greeting import (
    HELLO_SIZE,
    PROOF_MESSAGE_SIZE,
    UNBOUND,
    VERDICT_SIZE,
    WELCOME_SIZE,
    Dialler,
    Hello,
    Listener,
    Refusal,
    binding_of,
    unpack_hello,
)
from holdfast.formats.mover.states import Greeting

SESSION = bytes(range(16))
TOKEN, OTHER_TOKEN = b"T" * 32, b"U" * 32
HELLO = Hello(session=SESSION, attempt=2, connection=3, connections=5, nonce=b"d" * 32)


class Gate:
    """Knows one session, and lets in whoever has proved itself unless it is told to refuse."""

    def __init__(self, refusal: Refusal = Refusal.NONE) -> None:
        self.refusal = refusal
        self.asked: list[Hello] = []

    def greet(self, nonce: bytes) -> Listener:
        return Listener(nonce, {SESSION: TOKEN}.get, self._admit)

    def _admit(self, hello: Hello) -> Refusal:
        self.asked.append(hello)
        return self.refusal


def sealed(front: bytes) -> bytes:
    return front + zlib.crc32(front).to_bytes(4, "little")


def changed(hello: Hello, **members: int | bytes) -> Hello:
    return msgspec.structs.replace(hello, **members)


def greet(dialler: Dialler, listener: Listener) -> None:
    proof = dialler.receive(listener.receive(dialler.hello))
    dialler.receive(listener.receive(proof))


def test_both_sides_open_after_four_messages() -> None:
    gate = Gate()
    dialler, listener = Dialler(HELLO, TOKEN), gate.greet(b"l" * 32)
    assert (listener.wanted, len(dialler.hello)) == (HELLO_SIZE, HELLO_SIZE)
    welcome = listener.receive(dialler.hello)
    assert (dialler.wanted, len(welcome)) == (WELCOME_SIZE, WELCOME_SIZE)
    proof = dialler.receive(welcome)
    assert (listener.wanted, len(proof)) == (PROOF_MESSAGE_SIZE, PROOF_MESSAGE_SIZE)
    verdict = listener.receive(proof)
    assert (dialler.wanted, len(verdict)) == (VERDICT_SIZE, VERDICT_SIZE)
    assert dialler.receive(verdict) == b""
    assert dialler.state is listener.state is Greeting.OPEN
    assert dialler.wanted == listener.wanted == 0
    assert dialler.version == listener.version == 1
    assert listener.hello == HELLO
    assert gate.asked == [HELLO]


def test_the_token_never_crosses() -> None:
    dialler, listener = Dialler(HELLO, TOKEN), Gate().greet(b"l" * 32)
    welcome = listener.receive(dialler.hello)
    proof = dialler.receive(welcome)
    assert TOKEN not in dialler.hello + welcome + proof + listener.receive(proof)


@pytest.mark.parametrize(
    "hello, refusal, words",
    [
        (changed(HELLO, version_min=2, version_max=3), Refusal.VERSION, "no version"),
        (changed(HELLO, version_min=0, version_max=0), Refusal.VERSION, "no version"),
        (changed(HELLO, version_min=2, version_max=1), Refusal.VERSION, "no version"),
        (changed(HELLO, flags=1), Refusal.FLAGS, "a flag"),
        (changed(HELLO, connections=0), Refusal.CONNECTIONS, "1 to 100"),
        (changed(HELLO, connections=101), Refusal.CONNECTIONS, "1 to 100"),
        (changed(HELLO, session=b"x" * 16), Refusal.SESSION, "not know the session"),
    ],
)
def test_a_hello_that_does_not_fit_is_refused(hello: Hello, refusal: Refusal, words: str) -> None:
    dialler, listener = Dialler(hello, TOKEN), Gate().greet(b"l" * 32)
    welcome = listener.receive(dialler.hello)
    assert int.from_bytes(welcome[10:12], "little") == refusal
    assert welcome[16:-4] == bytes(64)
    with pytest.raises(LinkRefused, match=words):
        dialler.receive(welcome)
    assert dialler.state is listener.state is Greeting.REFUSED
    assert dialler.wanted == listener.wanted == 0


def test_the_highest_common_version_is_chosen() -> None:
    dialler, listener = Dialler(changed(HELLO, version_max=9), TOKEN), Gate().greet(b"l" * 32)
    greet(dialler, listener)
    assert dialler.version == listener.version == 1


def test_a_listener_without_the_token_is_not_believed() -> None:
    dialler = Dialler(HELLO, OTHER_TOKEN)
    with pytest.raises(LinkRefused, match="does not know the token"):
        dialler.receive(Gate().greet(b"l" * 32).receive(dialler.hello))


def test_a_dialler_without_the_token_is_refused_and_fences_nobody() -> None:
    gate = Gate()
    listener = gate.greet(b"l" * 32)
    dialler = Dialler(HELLO, TOKEN)
    proof = dialler.receive(listener.receive(dialler.hello))
    forged = sealed(proof[:8] + b"x" * 32)
    verdict = listener.receive(forged)
    assert listener.state is Greeting.REFUSED
    assert gate.asked == []
    with pytest.raises(LinkRefused, match="not that of the session"):
        dialler.receive(verdict)


def test_what_was_recorded_cannot_be_played_again() -> None:
    gate = Gate()
    dialler, first, second = Dialler(HELLO, TOKEN), gate.greet(b"1" * 32), gate.greet(b"2" * 32)
    proof = dialler.receive(first.receive(dialler.hello))
    second.receive(dialler.hello)
    second.receive(proof)
    assert second.state is Greeting.REFUSED


def test_a_greeting_that_was_passed_on_between_two_connections_is_refused_by_both_sides() -> None:
    ends = {name: name.encode() * 32 for name in "lmd"}  # the one in the middle has a certificate, too
    seen, shown = binding_of(ends["m"], ends["d"]), binding_of(ends["l"], ends["m"])
    for binding in (seen, UNBOUND, binding_of(ends["d"], ends["l"])):
        dialler, listener = Dialler(HELLO, TOKEN, binding), Gate().greet(b"l" * 32)
        listener.binding = shown
        welcome = listener.receive(dialler.hello)
        with pytest.raises(LinkRefused, match="or is not whom it is reached by"):
            dialler.receive(welcome)
        # A dialler that does not look at the listener's proof is not believed by the listener either.
        trusting, same = Dialler(HELLO, TOKEN, binding), Gate().greet(b"l" * 32)
        same.binding = binding
        proof = trusting.receive(same.receive(trusting.hello))
        listener.receive(proof)
        assert listener.state is Greeting.REFUSED
    dialler, listener = Dialler(HELLO, TOKEN, shown), Gate().greet(b"l" * 32)
    listener.binding = shown
    greet(dialler, listener)
    assert listener.state is Greeting.OPEN


def test_a_listeners_proof_is_no_diallers_proof() -> None:
    dialler, listener = Dialler(HELLO, TOKEN), Gate().greet(b"l" * 32)
    welcome = listener.receive(dialler.hello)
    listener.receive(sealed(welcome[:8] + welcome[48:80]))
    assert listener.state is Greeting.REFUSED


@pytest.mark.parametrize(
    "refusal, error, words",
    [
        (Refusal.FENCED, WriterFenced, "later attempt than 2"),
        (Refusal.SESSION, LinkRefused, "not know the session"),
    ],
)
def test_who_has_proved_itself_may_still_be_refused(refusal: Refusal, error: type[HoldfastError], words: str) -> None:
    gate = Gate(refusal)
    dialler, listener = Dialler(HELLO, TOKEN), gate.greet(b"l" * 32)
    with pytest.raises(error, match=words):
        greet(dialler, listener)
    assert dialler.state is listener.state is Greeting.REFUSED
    assert gate.asked == [HELLO]


def test_any_changed_bit_ends_the_greeting() -> None:
    template = Dialler(HELLO, TOKEN), Gate().greet(b"l" * 32)
    welcome = template[1].receive(template[0].hello)
    proof = template[0].receive(welcome)
    verdict = template[1].receive(proof)
    messages = (template[0].hello, welcome, proof, verdict)
    for at, message in enumerate(messages):
        for bit in range(len(message) * 8):
            dialler, listener = Dialler(HELLO, TOKEN), Gate().greet(b"l" * 32)
            sides = (listener, dialler, listener, dialler)
            for side, good in zip(sides[:at], messages, strict=False):
                side.receive(good)
            bad = bytearray(message)
            bad[bit // 8] ^= 1 << bit % 8
            with pytest.raises(LinkError, match="is damaged"):
                sides[at].receive(bytes(bad))
            assert sides[at].state is Greeting.REFUSED


@pytest.mark.parametrize(
    "front, words",
    [
        (b"HFMOVER2" + bytes(72), "without the magic number"),
        (b"HFMOVER1" + (1).to_bytes(2, "little") + bytes(2) + (7).to_bytes(4, "little") + bytes(64), "with flags 7"),
        (b"HFMOVER1" + (2).to_bytes(2, "little") + bytes(70), "chose version 2"),
        (b"HFMOVER1" + bytes(72), "chose version 0"),
        (b"HFMOVER1" + (1).to_bytes(2, "little") + (99).to_bytes(2, "little") + bytes(68), "reason 99"),
    ],
)
def test_a_strange_welcome_is_refused(front: bytes, words: str) -> None:
    with pytest.raises(LinkError, match=words):
        Dialler(HELLO, TOKEN).receive(sealed(front))


def test_bytes_that_have_to_be_zero_are_looked_at() -> None:
    hello = HELLO.pack()
    with pytest.raises(ProtocolError, match=r"^hello has 1 where"):
        Gate().greet(b"l" * 32).receive(sealed(hello[:42] + b"\1\0" + hello[44:-4]))
    dialler, listener = Dialler(HELLO, TOKEN), Gate().greet(b"l" * 32)
    dialler.receive(listener.receive(dialler.hello))
    with pytest.raises(ProtocolError, match=r"^verdict has 1 where"):
        dialler.receive(sealed(b"HFMOVER1" + b"\0\0\1\0"))


@given(st.data())
def test_garbage_with_a_right_checksum_raises_our_errors_only(data: st.DataObject) -> None:
    front = b"HFMOVER1" + data.draw(st.binary(min_size=HELLO_SIZE - 12, max_size=HELLO_SIZE - 12))
    listener = Gate().greet(b"l" * 32)
    try:
        listener.receive(sealed(front))
        assert listener.state in {Greeting.PROOF, Greeting.REFUSED}
    except LinkError:
        assert listener.state is Greeting.REFUSED


def test_a_hello_comes_back() -> None:
    assert unpack_hello(HELLO.pack()) == HELLO
