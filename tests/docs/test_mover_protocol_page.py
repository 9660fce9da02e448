"""docs/formats/mover-protocol.md is true: its tables are compared with the bytes that the code sends."""

import hashlib
import hmac
import re
import struct
import zlib
from typing import get_args

import msgspec
import pytest

from holdfast.formats.mover import wire
from holdfast.formats.mover.bodies import Run, pack_runs, unpack_unit
from holdfast.formats.mover.events import LinkOptions
from holdfast.formats.mover.greeting import UNBOUND, Dialler, Hello, Listener, Refusal, binding_of
from holdfast.formats.mover.inbox import Message
from holdfast.formats.mover.link import Link
from holdfast.formats.mover.messages import BODY_SIZE, HEAD_SIZE_MAX, AnyHead, Unit, decode_message, encode_message
from holdfast.formats.mover.states import GREETING, LINK, Greeting
from holdfast.formats.mover.wire import FrameKind
from holdfast.mover.server import GREETINGS_MAX
from holdfast.mover.sockets import GREETING_S
from scripts import mover_page
from tests.docs.format_pages import MOVER_PAGE, Row, blocks, quoted, section, tables
from tests.docs.test_chain_file_page import assert_layout, little
from tests.holdfast.formats.mover.samples import SAMPLES

SESSION, TOKEN = bytes(range(16)), bytes(range(100, 132))
HELLO = Hello(
    session=SESSION, attempt=0x01020304, connection=0x11121314, connections=99, nonce=bytes(range(32)), version_max=7
)
LISTENER_NONCE = bytes(range(50, 82))
BINDING = bytes(range(64))
PROSE = MOVER_PAGE.read_text()


def greeting() -> tuple[bytes, bytes, bytes, bytes]:
    """Return the four messages of a greeting."""
    dialler = Dialler(HELLO, TOKEN, BINDING)
    listener = Listener(LISTENER_NONCE, {SESSION: TOKEN}.get, lambda _: Refusal.NONE)
    listener.binding = BINDING
    welcome = listener.receive(dialler.hello)
    proof = dialler.receive(welcome)
    return dialler.hello, welcome, proof, listener.receive(proof)


def proofs() -> dict[str, bytes]:
    """Return the proofs as the page says that they come about."""
    hello, welcome, _, _ = greeting()
    found = {}
    for row in tables(section(MOVER_PAGE, "Proofs"))[1]:
        [words] = quoted(row["How it comes about"])
        assert row["How it comes about"] == f"HMAC-SHA256(token, `{words}`, a zero byte, *said*)"
        said = hello[:76] + welcome[:48] + BINDING
        found[row["Proof"]] = hmac.new(TOKEN, words.encode() + b"\0" + said, hashlib.sha256).digest()
    return found


def sealed(data: bytes) -> bytes:
    return little(zlib.crc32(data[:-4]), 4)


# ---------------------------------------------------------------------------------------------------- greeting


def test_a_hello_lies_as_its_table_says() -> None:
    data = greeting()[0]
    expected = {
        "magic": b"HFMOVER1",
        "version_min": little(1, 2),
        "version_max": little(7, 2),
        "flags": bytes(4),
        "session": SESSION,
        "attempt": little(0x01020304, 4),
        "connection": little(0x11121314, 4),
        "connections": little(99, 2),
        "nonce": HELLO.nonce,
        "crc": sealed(data),
    }
    assert_layout(tables(section(MOVER_PAGE, "Hello"))[0], data, expected, {})


def test_a_welcome_lies_as_its_table_says() -> None:
    data = greeting()[1]
    expected = {
        "magic": b"HFMOVER1",
        "version": little(1, 2),
        "refusal": bytes(2),
        "flags": bytes(4),
        "nonce": LISTENER_NONCE,
        "proof": proofs()["listener's"],
        "crc": sealed(data),
    }
    assert_layout(tables(section(MOVER_PAGE, "Welcome"))[0], data, expected, {})


def test_a_proof_lies_as_its_table_says() -> None:
    data = greeting()[2]
    expected = {"magic": b"HFMOVER1", "proof": proofs()["dialler's"], "crc": sealed(data)}
    assert_layout(tables(section(MOVER_PAGE, "Proof"))[0], data, expected, {})


def test_a_verdict_lies_as_its_table_says() -> None:
    data = greeting()[3]
    expected = {"magic": b"HFMOVER1", "refusal": bytes(2), "crc": sealed(data)}
    assert_layout(tables(section(MOVER_PAGE, "Verdict"))[0], data, expected, {})


def test_a_binding_lies_as_its_table_says() -> None:
    listener, dialler = BINDING[:32], BINDING[32:]
    rows = tables(section(MOVER_PAGE, "Proofs"))[0]
    assert_layout(rows, binding_of(listener, dialler), {"listener": listener, "dialler": dialler}, {})
    assert bytes(64) == UNBOUND


def test_the_refusals_are_those_of_the_code() -> None:
    rows = tables(section(MOVER_PAGE, "Refusals"))[0]
    listed = {int(row["Code"]): row["Name"] for row in rows}
    assert listed == {refusal: refusal.name.lower() for refusal in Refusal if refusal}


def transitions(rows: list[Row]) -> dict[tuple[str, str], str]:
    return {(quoted(row["State"])[0], quoted(row["Cause"])[0]): quoted(row["Next state"])[0] for row in rows}


def test_the_states_are_those_of_the_code() -> None:
    assert transitions(tables(section(MOVER_PAGE, "States of a greeting"))[0]) == dict(GREETING)
    assert transitions(tables(section(MOVER_PAGE, "How a link works"))[0]) == dict(LINK)
    assert {state for state, _ in GREETING} == set(Greeting) - {Greeting.OPEN, Greeting.REFUSED}


# ---------------------------------------------------------------------------------------------------- frames

FRAME_ROWS, KIND_ROWS, RANGE_ROWS = tables(section(MOVER_PAGE, "Frames"))


def test_a_frame_lies_as_its_table_says() -> None:
    payload = b"payload"
    numbers = 0x0102030405060708, 0x1112131415161718, 0x2122232425262728
    header = wire.pack_header((FrameKind.DATA, len(payload), numbers[0]), numbers[1:], zlib.crc32(payload))
    expected = {
        "kind": b"\1",
        "flags": b"\0",
        "length": little(len(payload), 4),
        "sequence": little(numbers[0], 8),
        "acknowledged": little(numbers[1], 8),
        "limit": little(numbers[2], 8),
        "payload_crc": little(zlib.crc32(payload), 4),
        "header_crc": sealed(header),
        "payload": payload,
    }
    assert_layout(FRAME_ROWS, header + payload, expected, {"length": len(payload)})


def test_a_range_lies_as_its_table_says() -> None:
    expected = {"first": little(0x0102030405060708, 8), "count": little(0x11121314, 4)}
    assert_layout(RANGE_ROWS, wire.pack_ranges([(0x0102030405060708, 0x11121314)]), expected, {})


def test_the_kinds_are_those_of_the_code() -> None:
    listed = {int(row["Kind"]): (row["Name"], int(row["Longest payload"])) for row in KIND_ROWS}
    assert listed == {kind: (kind.name.lower(), wire.LENGTH_MAX[kind]) for kind in FrameKind}


def test_the_limits_are_those_of_the_code() -> None:
    assert {row["What"]: int(row["Limit"]) for row in tables(section(MOVER_PAGE, "Limits"))[0]} == {
        "connections of a link": wire.STREAMS_MAX,
        "payload of a frame": wire.PAYLOAD_MAX,
        "ranges in an acknowledgement": wire.RANGES_MAX,
        "what a message costs beside its length": wire.FRAME_COST,
        "head of a message": HEAD_SIZE_MAX,
    }
    assert f"at most {HEAD_SIZE_MAX} |" in section(MOVER_PAGE, "Messages")
    assert f"at most {wire.RANGES_MAX * wire.RANGE_SIZE} bytes for each connection" in PROSE


def test_the_numbers_of_the_prose_are_those_of_the_code() -> None:
    options = LinkOptions()
    assert f"A message costs its length + {wire.FRAME_COST}." in PROSE
    assert f"nothing was sent for {options.heartbeat_s:g} s gets an ack" in PROSE
    assert f"nothing was heard for {options.silence_s:g} s is closed" in PROSE
    longest = f"{options.redial_s:g} s"
    assert f"if it had lived for {longest}, else 1, 2, 4, 8 and then every time {longest}" in PROSE
    assert f"longer than {options.far_s * 1000:g} ms" in PROSE
    assert f"without any connection for {options.give_up_s / 60:g} min has failed" in PROSE
    assert f"up to {wire.RANGES_MAX} ranges" in PROSE
    assert f"takes {GREETING_S:g} s at most" in PROSE
    assert f"greets up to {GREETINGS_MAX} connections at once" in PROSE


# ---------------------------------------------------------------------------------------------------- messages


def test_the_parts_made_from_the_code_are_up_to_date() -> None:
    assert mover_page.page_with(PROSE) == PROSE


def test_every_message_has_a_row_and_its_members() -> None:
    found = tables(section(MOVER_PAGE, "Messages"))
    kinds = [row for table in found for row in table if "Number" in row]
    assert [quoted(row["Message"])[0] for row in kinds] == [kind.__name__ for kind in get_args(AnyHead)]
    members = [row for table in found for row in table if "Member" in row]
    for kind in get_args(AnyHead):
        listed = [row["Member"] for row in members if quoted(row["Message"]) == [kind.__name__]]
        body = ["body"] if kind in BODY_SIZE else []
        assert listed == [f"`{name}`" for name in kind.__struct_fields__] + body


@pytest.mark.parametrize("head, body", SAMPLES, ids=lambda value: type(value).__name__)
def test_a_message_lies_as_its_table_says(head: AnyHead, body: bytes) -> None:
    data = b"".join(encode_message(head, body))
    length = int.from_bytes(data[:4], "little")
    number, *members = msgspec.msgpack.decode(data[4 : 4 + length])
    found = tables(section(MOVER_PAGE, "Messages"))
    [row] = [row for table in found for row in table if row.get("Number") == str(number)]
    assert quoted(row["Message"]) == [type(head).__name__]
    told = msgspec.msgpack.decode(msgspec.msgpack.encode([getattr(head, name) for name in head.__struct_fields__]))
    assert members == told
    assert data[4 + length :] == body


def test_bodies_have_the_sizes_of_their_rows() -> None:
    rows = [row for table in tables(section(MOVER_PAGE, "Messages")) for row in table if row.get("Member") == "body"]
    for row in rows:
        [head] = [head for head, _ in SAMPLES if quoted(row["Message"]) == [type(head).__name__]]
        least, most = BODY_SIZE[type(head)](head)
        whole = re.match(r"(\d+) to (\d+): the bytes of the file", row["Allowed"])
        if whole:
            assert (least, most) == (int(whole[1]), int(whole[2]))
            continue
        count = head.count  # type: ignore[union-attr] # every other message with a body has it
        columns = sum(int(size) for size in re.findall(r"(?:^|; )`count` x (\d+):", row["Allowed"]))
        packed = re.search(r"the packed bytes, 1 to `count` x (\d+)", row["Allowed"])
        if row["Allowed"].startswith("one bit"):
            assert least == most == -(-count // 8)
        elif packed:
            assert (least, most) == (count * columns + 1, count * (columns + int(packed[1])))
        else:
            assert least == most == count * columns


def test_a_run_lies_as_the_page_says() -> None:
    assert (
        "A **run** has 12 bytes: count of pieces (4), index of a file of the chain or 0xFFFFFFFF for zeros (4)" in PROSE
    )
    assert pack_runs([Run(5, None, 0), Run(6, 7, 8)]) == struct.pack("<6I", 5, 0xFFFFFFFF, 0, 6, 7, 8)


# ---------------------------------------------------------------------------------------------------- worked example

EXAMPLE = section(MOVER_PAGE, "A worked example")
HELLO_SHOWN, WELCOME, PROOF, VERDICT, ACK, OPENING, ANSWER, DAMAGED, NACK = (
    bytes.fromhex("".join(line.partition("  ")[2] for line in block.splitlines())) for block in blocks(EXAMPLE, "hex")
)


def words_of(text: str) -> bytes:
    found = re.search(rf"{text} `([0-9a-f]+)`", EXAMPLE)
    assert found
    return bytes.fromhex(found[1])


def test_the_greeting_of_the_example_is_accepted() -> None:
    session, token = words_of("Session"), words_of("token")
    hello = Hello(session=session, attempt=1, connection=0, connections=1, nonce=HELLO_SHOWN[44:76])
    dialler = Dialler(hello, token)
    assert dialler.hello == HELLO_SHOWN
    assert dialler.receive(WELCOME) == PROOF
    assert dialler.receive(VERDICT) == b""
    listener = Listener(
        WELCOME[16:48], {session: token}.get, lambda found: Refusal.NONE if found == hello else Refusal.FENCED
    )
    assert listener.receive(HELLO_SHOWN) == WELCOME
    assert listener.receive(PROOF) == VERDICT


def test_the_frames_of_the_example_are_understood() -> None:
    listener = Link(LinkOptions(), 0.0, is_dialler=False)
    listener.connection_made(0, 0.0)
    sent = b"".join(listener.take_output(0, 1 << 20, 0.0))
    assert sent == ACK
    assert f"window of {LinkOptions().receive_window} bytes" in EXAMPLE
    listener.receive(0, ACK + OPENING, 0.0)
    [message] = listener.events()
    assert isinstance(message, Message)
    head, body = decode_message(message.payload)
    assert (head, bytes(body)) == (mover_page.OPENING, b"")
    length = int.from_bytes(message.payload[:4], "little")
    assert f"Message 0 has {len(message.payload)} bytes, of which the head has {length}" in EXAMPLE
    assert b"".join(listener.take_output(0, 1 << 20, 0.0)) == ANSWER
    listener.receive(0, DAMAGED, 0.0)
    assert b"".join(listener.take_output(0, 1 << 20, 0.0)) == NACK


def test_the_damaged_unit_of_the_example_is_whole_with_its_last_bit_put_right() -> None:
    header, payload = wire.unpack_header(DAMAGED[:40]), bytearray(DAMAGED[40:])
    payload[-1] ^= 1
    assert zlib.crc32(payload) == header.payload_crc
    head, body = decode_message(payload)
    assert isinstance(head, Unit)
    pieces, digests, packed = unpack_unit(head, body)
    assert (pieces, digests, bytes(packed)) == ([3], [bytes(range(16))], b"packed")
