"""How two movers make sure of each other before the first frame (docs/formats/mover-protocol.md section 3).

::

    dialler                          listener
    hello    ------------------->
             <-------------------    welcome, with the listener's proof
    proof    ------------------->
             <-------------------    verdict

Each message has a fixed size, given by ``wanted``. The token itself never crosses: both sides prove that they know it
by an HMAC over what both have said, their nonces included, so nothing recorded can be played again. The certificates of
both ends are in it as well, as each side sees them, so nothing can be passed on through somebody between them either.
"""

import hmac
import struct
from collections.abc import Callable
from enum import IntEnum
from hashlib import sha256

import msgspec
from isal.isal_zlib import crc32

from holdfast.errors import LinkError, LinkRefused, ProtocolError, WriterFenced
from holdfast.formats.mover.states import GREETING, Greeting, GreetingCause, moved
from holdfast.formats.mover.wire import MAGIC, STREAMS_MAX, VERSION, VERSION_MIN

NONCE_SIZE = 32
PROOF_SIZE = 32
TOKEN_SIZE_MIN = 32
SESSION_SIZE = 16

_HELLO = struct.Struct("<8sHHI16sIIHH32s")
_WELCOME = struct.Struct("<8sHHI32s")
_PROOF = struct.Struct("<8s32s")
_VERDICT = struct.Struct("<8sHH")
_CRC_SIZE = 4
HELLO_SIZE = _HELLO.size + _CRC_SIZE
WELCOME_SIZE = _WELCOME.size + PROOF_SIZE + _CRC_SIZE
PROOF_MESSAGE_SIZE = _PROOF.size + _CRC_SIZE
VERDICT_SIZE = _VERDICT.size + _CRC_SIZE

SIZES = {
    Greeting.HELLO: HELLO_SIZE,
    Greeting.WELCOME: WELCOME_SIZE,
    Greeting.PROOF: PROOF_MESSAGE_SIZE,
    Greeting.VERDICT: VERDICT_SIZE,
    Greeting.OPEN: 0,
    Greeting.REFUSED: 0,
}
"""Bytes of the message that is waited for in each state."""

BINDING_SIZE = 2 * sha256().digest_size
UNBOUND = bytes(BINDING_SIZE)
"""The binding of a connection without certificates."""

_LISTENER = b"holdfast mover listener\0"
_DIALLER = b"holdfast mover dialler\0"


class Refusal(IntEnum):
    """Why a listener does not accept a connection."""

    NONE = 0
    VERSION = 1
    FLAGS = 2
    CONNECTIONS = 3
    SESSION = 4
    TOKEN = 5
    FENCED = 6


_REASONS = {
    Refusal.VERSION: "it speaks no version that this one speaks",
    Refusal.FLAGS: "it does not know a flag of the hello",
    Refusal.CONNECTIONS: f"it accepts 1 to {STREAMS_MAX} connections",
    Refusal.SESSION: "it does not know the session",
    Refusal.TOKEN: "the token is not that of the session",
}


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """What a dialler says of itself and of the connection."""

    session: bytes
    """16 bytes."""
    attempt: int
    """Its number, below 2^32; the highest of a session fences all lower ones."""
    connection: int
    """Number of this connection in the attempt; each number is used once."""
    connections: int
    """How many connections the dialler wants to have at once."""
    nonce: bytes
    """32 random bytes, drawn for this connection."""
    version_min: int = VERSION_MIN
    version_max: int = VERSION
    flags: int = 0

    def pack(self) -> bytes:
        """Return the bytes of the hello."""
        fields = (self.session, self.attempt, self.connection, self.connections, 0, self.nonce)
        return _sealed(_HELLO.pack(MAGIC, self.version_min, self.version_max, self.flags, *fields))


Find = Callable[[bytes], bytes | None]
"""Returns the token of a session, or None."""
Admit = Callable[[Hello], Refusal]
"""Decides on an attempt whose dialler has proved itself: FENCED after a higher one, SESSION when it is over."""


class Dialler:
    """The dialler's side of one connection. Send ``hello`` first, then what `receive` returns."""

    def __init__(self, hello: Hello, token: bytes, binding: bytes = UNBOUND) -> None:
        assert len(token) >= TOKEN_SIZE_MIN
        assert (len(hello.session), len(hello.nonce), len(binding)) == (SESSION_SIZE, NONCE_SIZE, BINDING_SIZE)
        self.state = Greeting.WELCOME
        self.hello = hello.pack()
        self.version = 0
        self._offer = hello
        self._token = token
        self._binding = binding

    @property
    def wanted(self) -> int:
        """Return the size of the message to read next; 0 when the greeting is over."""
        return SIZES[self.state]

    def receive(self, message: bytes) -> bytes:
        """Take the message that was wanted and return what to send.

        Raises `LinkError` for a damaged one, after which another connection may be dialled, `ProtocolError` for a
        malformed one, `LinkRefused`, and `WriterFenced` when a higher attempt is at work.
        """
        assert len(message) == self.wanted
        try:
            answer = self._welcomed(message) if self.state is Greeting.WELCOME else self._judged(message)
        except (LinkError, WriterFenced):
            self.state = moved(GREETING, self.state, GreetingCause.REFUSED)
            raise
        self.state = moved(GREETING, self.state, GreetingCause.ACCEPTED)
        return answer

    def _welcomed(self, message: bytes) -> bytes:
        front = _unsealed(message)[: _WELCOME.size]
        _, version, refusal, flags, _ = _WELCOME.unpack(front)
        self._check(refusal)
        if flags or not self._offer.version_min <= version <= self._offer.version_max:
            raise ProtocolError(f"listener chose version {version} with flags {flags}")
        said = self.hello[: _HELLO.size] + front + self._binding
        proof = message[_WELCOME.size : _WELCOME.size + PROOF_SIZE]
        if not hmac.compare_digest(proof, _proof(self._token, _LISTENER, said)):
            name = self._offer.session.hex()
            raise LinkRefused(f"listener does not know the token of session {name}, or is not whom it is reached by")
        self.version = version
        return _sealed(_PROOF.pack(MAGIC, _proof(self._token, _DIALLER, said)))

    def _judged(self, message: bytes) -> bytes:
        _, refusal, zero = _VERDICT.unpack(_unsealed(message))
        if zero:
            raise ProtocolError(f"verdict has {zero} where zero belongs")
        self._check(refusal)
        return b""

    def _check(self, refusal: int) -> None:
        name = self._offer.session.hex()
        if refusal == Refusal.FENCED:
            raise WriterFenced(f"a later attempt than {self._offer.attempt} works on session {name}")
        if refusal:
            known = refusal in Refusal._value2member_map_
            reason = _REASONS[Refusal(refusal)] if known else f"reason {refusal}"
            raise LinkRefused(f"listener refused session {name}: {reason}")


class Listener:
    """The listener's side of one connection; ``find`` and ``admit`` decide on sessions and attempts."""

    def __init__(self, nonce: bytes, find: Find, admit: Admit) -> None:
        assert len(nonce) == NONCE_SIZE
        self.state = Greeting.HELLO
        self.hello: Hello | None = None
        """Who dials; to be believed in state OPEN only."""
        self.version = 0
        self.binding = UNBOUND
        """See `binding_of`; to be set before the first message is received."""
        self._nonce = nonce
        self._find = find
        self._admit = admit
        self._token = b""
        self._said = b""

    @property
    def wanted(self) -> int:
        """Return the size of the message to read next; 0 when the greeting is over."""
        return SIZES[self.state]

    def receive(self, message: bytes) -> bytes:
        """Take the message that was wanted and return what to send.

        Raises `LinkError` for a damaged one and `ProtocolError` for a malformed one. After a refusal the state is
        REFUSED: send what was returned and close.
        """
        assert len(message) == self.wanted
        try:
            refusal, answer = self._greeted(message) if self.state is Greeting.HELLO else self._proved(message)
        except LinkError:
            self.state = moved(GREETING, self.state, GreetingCause.REFUSED)
            raise
        self.state = moved(GREETING, self.state, GreetingCause.REFUSED if refusal else GreetingCause.ACCEPTED)
        return answer

    def _greeted(self, message: bytes) -> tuple[Refusal, bytes]:
        hello = unpack_hello(message)
        token = self._find(hello.session)
        refusal = _refusal(hello)
        if not refusal and token is None:
            refusal = Refusal.SESSION
        if refusal or token is None:
            front = _WELCOME.pack(MAGIC, 0, refusal, 0, bytes(NONCE_SIZE))
            return refusal, _sealed(front + bytes(PROOF_SIZE))
        self.hello, self._token = hello, token
        self.version = min(VERSION, hello.version_max)
        front = _WELCOME.pack(MAGIC, self.version, Refusal.NONE, 0, self._nonce)
        self._said = message[: _HELLO.size] + front + self.binding
        return refusal, _sealed(front + _proof(token, _LISTENER, self._said))

    def _proved(self, message: bytes) -> tuple[Refusal, bytes]:
        _, proof = _PROOF.unpack(_unsealed(message))
        assert self.hello is not None
        is_proved = hmac.compare_digest(proof, _proof(self._token, _DIALLER, self._said))
        refusal = self._admit(self.hello) if is_proved else Refusal.TOKEN  # who has not proved itself fences nobody
        return refusal, _sealed(_VERDICT.pack(MAGIC, refusal, 0))


def binding_of(listener: bytes, dialler: bytes) -> bytes:
    """Return what binds proofs to a connection, from the SHA-256 of the certificates of both ends."""
    assert len(listener) == len(dialler) == sha256().digest_size
    return listener + dialler


def unpack_hello(message: bytes) -> Hello:
    """Return the hello in a message of `HELLO_SIZE` bytes, without judging it. Raises `LinkError`."""
    fields = _HELLO.unpack(_unsealed(message))
    _, version_min, version_max, flags, session, attempt, connection, connections, zero, nonce = fields
    if zero:
        raise ProtocolError(f"hello has {zero} where zero belongs")
    return Hello(
        session=session,
        attempt=attempt,
        connection=connection,
        connections=connections,
        nonce=nonce,
        version_min=version_min,
        version_max=version_max,
        flags=flags,
    )


def _refusal(hello: Hello) -> Refusal:
    if hello.version_max < VERSION_MIN or hello.version_min > VERSION or hello.version_min > hello.version_max:
        return Refusal.VERSION
    if hello.flags:
        return Refusal.FLAGS
    if not 1 <= hello.connections <= STREAMS_MAX:
        return Refusal.CONNECTIONS
    return Refusal.NONE


def _proof(token: bytes, side: bytes, said: bytes) -> bytes:
    return hmac.new(token, side + said, sha256).digest()


def _sealed(front: bytes) -> bytes:
    return front + crc32(front).to_bytes(_CRC_SIZE, "little")


def _unsealed(message: bytes) -> bytes:
    front = message[:-_CRC_SIZE]
    if crc32(front) != int.from_bytes(message[-_CRC_SIZE:], "little"):
        raise LinkError("greeting is damaged, or not one of the mover protocol")
    if front[: len(MAGIC)] != MAGIC:
        raise ProtocolError("greeting begins without the magic number of the mover protocol")
    return front
