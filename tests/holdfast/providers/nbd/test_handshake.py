"""The handshake: with real servers, and with servers that get it wrong."""

import struct

import pytest

from holdfast.providers.nbd import protocol as nbd
from holdfast.providers.nbd.client import Connection
from holdfast.providers.nbd.handshake import About
from tests.holdfast.providers.nbd.conftest import Play, Serve
from tests.holdfast.providers.nbd.scripted import (
    CONTEXT,
    GREETING,
    READER_FLAGS,
    SIZE,
    Peer,
    Script,
    block_sizes,
    option_reply,
)


def shaken(play: Play, script: Script) -> About:
    server = play(script)
    connection = Connection(server.export())
    connection.close()
    return connection.about


def test_a_server_without_limits_gets_the_usual_ones(play: Play) -> None:
    about = shaken(play, Peer.greet)
    blocks = nbd.BlockSizes(minimum=1, preferred=4096, maximum=32 << 20)
    assert about == About(
        size_bytes=SIZE, flags=READER_FLAGS, blocks=blocks, has_structured_replies=True, allocation=CONTEXT
    )


def test_a_server_without_structured_replies_is_not_asked_for_contexts(play: Play) -> None:
    about = shaken(play, lambda peer: peer.greet(is_structured=False))
    assert (about.has_structured_replies, about.allocation) == (False, None)


def test_block_sizes_of_the_server_are_taken(play: Play) -> None:
    about = shaken(play, lambda peer: peer.greet(infos=block_sizes(512, 65536, 1 << 20)))
    assert about.blocks == nbd.BlockSizes(minimum=512, preferred=65536, maximum=1 << 20)


def cut_greeting(peer: Peer) -> None:
    peer.send(GREETING[:11])


def wrong_magic(peer: Peer) -> None:
    peer.send(b"220 mail.example ESMTP ready\r\n")


def oversize_reply(peer: Peer) -> None:
    peer.send(GREETING)
    peer.receive(4)
    option, _ = peer.receive_option()
    peer.send(struct.pack(">QIII", nbd.OPTION_REPLY_MAGIC, option, nbd.NBD_REP_ACK, 1 << 31))
    peer.wait_until_client_leaves()


def reply_to_another_option(peer: Peer) -> None:
    peer.send(GREETING)
    peer.receive(4)
    peer.receive_option()
    peer.send(option_reply(99, nbd.NBD_REP_ACK))
    peer.wait_until_client_leaves()


def endless_replies(peer: Peer) -> None:
    peer.send(GREETING)
    peer.receive(4)
    option, _ = peer.receive_option()
    while True:
        peer.send(option_reply(option, nbd.NBD_REP_INFO, b"\0\1x"))


def no_size(peer: Peer) -> None:
    peer.send(GREETING)
    peer.receive(4)
    while True:
        option, _ = peer.receive_option()
        peer.send(option_reply(option, nbd.NBD_REP_ACK))


def bad_block_sizes(peer: Peer) -> None:
    peer.greet(infos=block_sizes(1000, 1000, 1000))


def gone_in_the_middle(peer: Peer) -> None:
    peer.send(GREETING)
    peer.receive(4)
    option, _ = peer.receive_option()
    peer.send(option_reply(option, nbd.NBD_REP_ACK)[:13])


def tls_only(peer: Peer) -> None:
    peer.send(GREETING)
    peer.receive(4)
    while True:
        option, _ = peer.receive_option()
        peer.send(option_reply(option, nbd.NBD_REP_ERR_TLS_REQD, b"use TLS"))


@pytest.mark.parametrize(
    "script, kind, why",
    [
        (cut_greeting, ConnectionResetError, "closed the connection"),
        (wrong_magic, nbd.ProtocolViolated, "no NBD server"),
        (oversize_reply, nbd.ProtocolViolated, "has 2147483648 bytes"),
        (reply_to_another_option, nbd.ProtocolViolated, "a reply to option 99"),
        (endless_replies, nbd.ProtocolViolated, "too many replies"),
        (no_size, nbd.ProtocolViolated, "does not tell the size"),
        (bad_block_sizes, nbd.ProtocolViolated, "block sizes 1000"),
        (gone_in_the_middle, ConnectionResetError, "closed the connection"),
        (tls_only, ConnectionRefusedError, "TLS is required: use TLS"),
    ],
)
def test_a_handshake_that_goes_wrong_ends_at_once(play: Play, script: Script, kind: type[OSError], why: str) -> None:
    with pytest.raises(kind, match=why):
        shaken(play, script)


@pytest.mark.tools("nbdkit")
def test_nbdkit_tells_everything(serve: Serve) -> None:
    server = serve("memory", size="1M", is_read_only=False, filters=("blocksize-policy",), blocksize_minimum="512")
    connection = Connection(server.export)
    connection.close()
    about = connection.about
    assert (about.size_bytes, about.blocks.minimum, about.has_structured_replies) == (1 << 20, 512, True)
    assert about.allocation is not None
    assert not about.can(nbd.NBD_FLAG_READ_ONLY)
    for flag in (nbd.NBD_FLAG_SEND_FLUSH, nbd.NBD_FLAG_SEND_FUA, nbd.NBD_FLAG_CAN_MULTI_CONN):
        assert about.can(flag)
