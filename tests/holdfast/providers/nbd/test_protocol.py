"""Bytes of the protocol: what is well formed is understood, everything else is a violation and nothing worse."""

import random
import struct
from collections.abc import Callable

import pytest

from holdfast.providers.nbd import protocol as nbd

GREETING = struct.pack(">QQH", nbd.NBDMAGIC, nbd.IHAVEOPT, 3)
EXPORT = struct.pack(">HQH", nbd.NBD_INFO_EXPORT, 1 << 40, 0x10D)
BLOCKS = struct.pack(">HIII", nbd.NBD_INFO_BLOCK_SIZE, 512, 4096, 1 << 25)
CONTEXT = struct.pack(">I", 9) + b"base:allocation"
REPLY = struct.pack(">QIII", nbd.OPTION_REPLY_MAGIC, nbd.NBD_OPT_GO, nbd.NBD_REP_ACK, 0)
SIMPLE = struct.pack(">IIQ", nbd.NBD_SIMPLE_REPLY_MAGIC, 5, 77)
CHUNK = struct.pack(">IHHQ", nbd.NBD_STRUCTURED_REPLY_MAGIC, 1, nbd.NBD_REPLY_TYPE_OFFSET_DATA, 77)
STATUS = struct.pack(">IIIII", 9, 4096, 3, 512, 0)
HOLE = struct.pack(">QI", 1 << 33, 65536)
ERROR = struct.pack(">IH", 28, 4) + b"full"


def parse_chunk(head: bytes) -> nbd.Reply:
    if nbd.missing_head(head):
        return nbd.parse_structured_reply(head, struct.pack(">IQ", 520, 1 << 33))
    return nbd.parse_simple_reply(head)


PARSERS: dict[str, tuple[Callable[[bytes], object], bytes, bool]] = {
    "greeting": (nbd.parse_greeting, GREETING, True),
    "option reply": (lambda data: nbd.parse_option_reply(data, nbd.NBD_OPT_GO), REPLY, True),
    "export": (nbd.parse_info, EXPORT, False),
    "block sizes": (nbd.parse_info, BLOCKS, False),
    "context": (nbd.parse_meta_context, CONTEXT, False),
    "simple reply": (parse_chunk, SIMPLE, True),
    "chunk": (parse_chunk, CHUNK, True),
    "block status": (nbd.parse_block_status, STATUS, False),
    "hole": (nbd.parse_hole, HOLE, False),
    "error": (nbd.parse_error, ERROR, False),
}


def test_well_formed_bytes_are_understood() -> None:
    assert nbd.parse_greeting(GREETING) == 3
    assert nbd.parse_option_reply(REPLY, nbd.NBD_OPT_GO) == (nbd.NBD_REP_ACK, 0)
    assert nbd.parse_info(EXPORT) == nbd.ExportInfo(size_bytes=1 << 40, flags=0x10D)
    assert nbd.parse_info(BLOCKS) == nbd.BlockSizes(minimum=512, preferred=4096, maximum=1 << 25)
    assert nbd.parse_info(struct.pack(">H", 1) + b"name") is None
    assert nbd.parse_meta_context(CONTEXT) == (9, "base:allocation")
    assert parse_chunk(SIMPLE) == nbd.Reply(77, None, nbd.NBD_REPLY_FLAG_DONE, 0, error=5)
    assert parse_chunk(CHUNK) == nbd.Reply(77, nbd.NBD_REPLY_TYPE_OFFSET_DATA, 1, 512, 1 << 33)
    assert nbd.parse_block_status(STATUS) == (9, [(4096, 3), (512, 0)])
    assert nbd.parse_hole(HOLE) == (1 << 33, 65536)
    assert nbd.parse_error(ERROR) == (28, "full")


def test_what_we_send_is_laid_out_as_specified() -> None:
    assert nbd.encode_client_flags(3) == b"\0\0\0\3"
    assert nbd.encode_client_flags(1) == b"\0\0\0\1"
    assert nbd.encode_option(7, b"ab") == b"IHAVEOPT\0\0\0\7\0\0\0\2ab"
    assert nbd.encode_go("x", [3]) == b"\0\0\0\1x\0\1\0\3"
    assert nbd.encode_meta_context("x", ["y:z"]) == b"\0\0\0\1x\0\0\0\1\0\0\0\3y:z"
    assert nbd.encode_request(nbd.NBD_CMD_WRITE, nbd.NBD_CMD_FLAG_FUA, 5, 1 << 32, 4096) == (
        b"\x25\x60\x95\x13\0\1\0\1\0\0\0\0\0\0\0\5\0\0\0\1\0\0\0\0\0\0\x10\0"
    )


def test_a_name_without_bound_is_refused() -> None:
    with pytest.raises(ValueError, match="a name of 5000 bytes"):
        nbd.encode_go("x" * 5000, [])


@pytest.mark.parametrize(
    "parse, data, why",
    [
        (nbd.parse_greeting, b"SSH-2.0-OpenSSH_9.2", "no NBD server"),
        (nbd.parse_greeting, struct.pack(">QQH", nbd.NBDMAGIC, nbd.OLDSTYLE_MAGIC, 0), "old style"),
        (nbd.parse_greeting, struct.pack(">QQH", nbd.NBDMAGIC, 1, 1), "unknown style"),
        (nbd.parse_greeting, struct.pack(">QQH", nbd.NBDMAGIC, nbd.IHAVEOPT, 2), "fixed new style"),
        (nbd.parse_info, b"\0", "of 1 bytes"),
        (nbd.parse_info, EXPORT + b"\0", "13 bytes instead of 12"),
        (nbd.parse_info, struct.pack(">HQH", 0, (1 << 63) + 1, 0), "an export of"),
        (nbd.parse_info, struct.pack(">HIII", 3, 0, 1, 1), "block sizes 0, 1, 1"),
        (nbd.parse_info, struct.pack(">HIII", 3, 3, 4, 5), "block sizes 3"),
        (nbd.parse_info, struct.pack(">HIII", 3, 1 << 17, 1 << 17, 1 << 20), "block sizes 131072"),
        (nbd.parse_info, struct.pack(">HIII", 3, 4096, 512, 1 << 20), "block sizes 4096, 512"),
        (nbd.parse_meta_context, b"\0\0", "of 2 bytes"),
        (nbd.parse_simple_reply, b"HTTP/1.1 400 Bad", "a reply begins with 48545450"),
        (nbd.parse_error, b"\0" * 5, "of 5 bytes"),
        (nbd.parse_error, struct.pack(">IH", 0, 0), "with error 0"),
        (nbd.parse_error, struct.pack(">IH", 5, 9) + b"short", "5 of 9 bytes"),
        (nbd.parse_hole, HOLE[1:], "a hole of 11 bytes"),
        (nbd.parse_block_status, STATUS[:4], "of 4 bytes"),
        (nbd.parse_block_status, STATUS[:-1], "of 19 bytes"),
        (nbd.parse_block_status, struct.pack(">III", 9, 0, 0), "empty run"),
    ],
)
def test_malformed_bytes_are_a_violation(parse: Callable[[bytes], object], data: bytes, why: str) -> None:
    size = nbd.GREETING_SIZE if parse is nbd.parse_greeting else len(data)
    with pytest.raises(nbd.ProtocolViolated, match=why):
        parse(data[:size])


@pytest.mark.parametrize("field, value", [(0, 1), (1, nbd.NBD_OPT_INFO), (3, nbd.OPTION_REPLY_BYTES_MAX + 1)])
def test_an_option_reply_is_checked_before_its_payload_is_read(field: int, value: int) -> None:
    fields = [nbd.OPTION_REPLY_MAGIC, nbd.NBD_OPT_GO, nbd.NBD_REP_ACK, 0]
    fields[field] = value
    with pytest.raises(nbd.ProtocolViolated, match="a reply to option"):
        nbd.parse_option_reply(struct.pack(">QIII", *fields), nbd.NBD_OPT_GO)


def test_a_refusal_is_worded() -> None:
    assert nbd.describe_refusal(nbd.NBD_REP_ERR_TLS_REQD, b"") == "TLS is required"
    assert nbd.describe_refusal(nbd.NBD_REP_ERR_UNKNOWN, b"gone \xff") == "no such export: gone \ufffd"
    assert nbd.describe_refusal(nbd.NBD_REP_FLAG_ERROR + 99, b"") == "error 0x80000063"


@pytest.mark.parametrize("name", PARSERS)
def test_no_bytes_do_worse_than_a_violation(name: str, seed: int) -> None:
    parse, sample, has_fixed_length = PARSERS[name]
    chance = random.Random(seed)
    for _ in range(2000):
        mutant = bytearray(sample)
        for _ in range(chance.randint(1, 4)):
            mutant[chance.randrange(len(mutant))] = chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))
        if not has_fixed_length:
            mutant = mutant[: chance.randint(0, len(mutant))] + chance.randbytes(chance.choice((0, 0, 1, 8, 40)))
        try:
            parse(bytes(mutant))
        except nbd.ProtocolViolated as violation:
            assert str(violation)  # noqa: PT017 # either outcome is fine, no other is


def test_runs_survive_a_round_trip(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(200):
        runs = [(chance.randint(1, 2**32 - 1), chance.randrange(4)) for _ in range(chance.randint(1, 50))]
        payload = struct.pack(">I", 3) + b"".join(struct.pack(">II", *run) for run in runs)
        assert nbd.parse_block_status(payload) == (3, runs)
