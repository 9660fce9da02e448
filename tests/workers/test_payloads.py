"""Conversion, sealing and failures, without a server."""

import enum
import random
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError

from holdfast.errors import ChainBusy, ConfigurationInvalid, CredentialMissing, DataDamaged
from workers.payloads import KEY_SIZE, SEALED_ENCODING, Keyring, SealingCodec, data_converter

OLD, NEW = bytes(range(KEY_SIZE)), bytes(range(100, 100 + KEY_SIZE))
SECRET = "the wine is in the cellar"
GOLDEN = "30d1336c5b87301dca0fdef0459ecb1994fcea8752b5a6e227b4c438afd963d1957e3dcac42cc70a9634f8caef"
"""Ciphertext and tag of the first layout, opened once with an HKDF written from its RFC."""


class Colour(enum.StrEnum):
    RED = "red"


class Circle(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    radius: float


class Square(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    side: float


class Everything(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    when: datetime
    lasting: timedelta
    colour: Colour
    shapes: tuple[Circle | Square, ...]
    raw: bytes
    names: frozenset[str] = frozenset()
    parent: "Everything | None" = None


class Narrow(msgspec.Struct, frozen=True, kw_only=True):
    name: str


EVERYTHING = Everything(
    name="ä",
    when=datetime(2026, 1, 2, 3, 4, 5, 6, UTC),
    lasting=timedelta(days=1, microseconds=7),
    colour=Colour.RED,
    shapes=(Circle(radius=1.5), Square(side=2.0)),
    raw=b"\x00\xff",
    names=frozenset({"b", "a"}),
    parent=Everything(
        name="",
        when=datetime(1, 1, 1, tzinfo=UTC),
        lasting=timedelta(),
        colour=Colour.RED,
        shapes=(),
        raw=b"",
    ),
)


def sealed_with(keys: dict[str, bytes]) -> DataConverter:
    return data_converter(Keyring(keys))


CONVERTERS = [data_converter(None), sealed_with({"k": OLD})]


@pytest.mark.parametrize("converter", CONVERTERS, ids=["clear", "sealed"])
@pytest.mark.parametrize(
    "value, hint",
    [
        (EVERYTHING, Everything),
        ([Circle(radius=1.0), Square(side=2.0)], list[Circle | Square]),
        (None, Everything),
        (b"\x00\x01", bytes),
        ({"a": [1, 2.5, None, True]}, None),
        ("text", str),
        (7, object),
        (Payload(data=b"x"), Payload),
    ],
)
async def test_values_come_back_as_their_type_hints_say(
    converter: DataConverter, value: object, hint: type | None
) -> None:
    payloads = await converter.encode([value])
    assert await converter.decode(payloads, [hint] if hint is not None else None) == [value]


async def test_values_without_a_hint_come_back_as_plain_containers() -> None:
    converter = data_converter(None)
    assert await converter.decode(await converter.encode([Narrow(name="x")])) == [{"name": "x"}]


async def test_unknown_fields_of_another_version_are_ignored() -> None:
    converter = data_converter(None)
    payloads = await converter.encode([EVERYTHING])
    assert await converter.decode(payloads, [Narrow]) == [Narrow(name="ä")]


async def test_structs_are_json_that_other_tools_can_show() -> None:
    [payload] = await data_converter(None).encode([Narrow(name="x")])
    assert payload.metadata["encoding"] == b"json/plain"
    assert payload.data == b'{"name":"x"}'


async def test_equal_values_give_equal_bytes_whatever_their_order() -> None:
    converter = data_converter(None)
    [first, second] = await converter.encode([{"a": 1, "b": {2, 3}}, {"b": {3, 2}, "a": 1}])
    assert first == second


async def test_a_payload_of_another_type_names_the_type_it_is_not() -> None:
    converter = data_converter(None)
    payloads = await converter.encode([{"radius": "wide", "type": "Circle"}])
    with pytest.raises(RuntimeError) as caught:
        await converter.decode(payloads, [Circle])
    assert "not a Circle" in str(caught.value.__cause__)


async def test_a_sealed_payload_shows_nothing_but_its_key_id() -> None:
    [payload] = await sealed_with({"k1": OLD}).encode([{"where": SECRET}])
    assert SECRET.encode() not in payload.SerializeToString()
    assert dict(payload.metadata) == {
        "encoding": SEALED_ENCODING.encode(),
        "key-id": b"k1",
        "compression": b"none",
    }


async def test_large_payloads_shrink_and_incompressible_ones_are_left(seed: int) -> None:
    converter = sealed_with({"k": OLD})
    noise = random.Random(seed).randbytes(10_000)
    [shrunk, left] = await converter.encode([{"text": SECRET * 1000}, noise])
    assert shrunk.metadata["compression"] == b"zstd"
    assert len(shrunk.data) < 1000
    assert left.metadata["compression"] == b"none"
    assert await converter.decode([shrunk, left]) == [{"text": SECRET * 1000}, noise]


async def test_the_same_value_is_never_sealed_the_same_way_twice() -> None:
    sealed = await sealed_with({"k": OLD}).encode([SECRET] * 50)
    assert len({payload.data for payload in sealed}) == 50
    assert len({payload.data[:32] for payload in sealed}) == 50


async def test_a_sealed_payload_of_this_layout_opens_for_ever() -> None:
    # Bytes written by the first version. Never change them: histories hold such payloads.
    codec = SealingCodec(Keyring({"k1": OLD}), random=lambda size: b"\x07" * size)
    [payload] = await codec.encode([Payload(metadata={"encoding": b"json/plain"}, data=b'"x"')])
    assert payload.data.hex() == "07" * 32 + GOLDEN
    assert (await codec.decode([payload]))[0].data == b'"x"'


async def test_after_a_rotation_the_new_key_seals_and_the_old_one_still_opens() -> None:
    before = await sealed_with({"2025": OLD}).encode([SECRET])
    rotated = sealed_with({"2026": NEW, "2025": OLD})
    after = await rotated.encode([SECRET])
    assert after[0].metadata["key-id"] == b"2026"
    assert await rotated.decode([*before, *after]) == [SECRET, SECRET]


async def test_a_key_that_is_not_configured_is_named() -> None:
    payloads = await sealed_with({"2025": OLD}).encode([SECRET])
    with pytest.raises(CredentialMissing, match="2025 is not configured, only 2026"):
        await sealed_with({"2026": NEW}).decode(payloads)


async def test_another_key_of_the_same_name_does_not_open() -> None:
    payloads = await sealed_with({"k": OLD}).encode([SECRET])
    with pytest.raises(DataDamaged, match="key k does not open"):
        await sealed_with({"k": NEW}).decode(payloads)


async def test_every_flipped_bit_of_a_sealed_payload_is_noticed() -> None:
    converter = sealed_with({"k": OLD})
    [payload] = await converter.encode([SECRET])
    for position in range(len(payload.data)):
        data = bytearray(payload.data)
        data[position] ^= 1 << (position % 8)
        with pytest.raises(DataDamaged):
            await converter.decode([Payload(metadata=payload.metadata, data=bytes(data))])


@pytest.mark.parametrize("length", [0, 1, 31, 32, 40, 47])
async def test_a_cut_off_payload_is_noticed(length: int) -> None:
    converter = sealed_with({"k": OLD})
    [payload] = await converter.encode([SECRET])
    with pytest.raises(DataDamaged):
        await converter.decode([Payload(metadata=payload.metadata, data=payload.data[:length])])


@pytest.mark.parametrize("field, value", [("key-id", b"other"), ("compression", b"zstd")])
async def test_the_metadata_belongs_to_what_is_sealed(field: str, value: bytes) -> None:
    converter = sealed_with({"k": OLD, "other": OLD})
    [payload] = await converter.encode([SECRET])
    payload.metadata[field] = value
    with pytest.raises(DataDamaged):
        await converter.decode([payload])


async def test_a_compression_of_a_newer_version_is_refused() -> None:
    codec = SealingCodec(Keyring({"k": OLD}))
    with pytest.MonkeyPatch.context() as newer:
        newer.setattr("workers.payloads._compressed", lambda content: ("brotli", content))
        [payload] = await codec.encode([Payload(data=b"x")])
    with pytest.raises(DataDamaged, match="brotli"):
        await codec.decode([payload])


async def test_a_payload_that_would_grow_beyond_measure_is_refused() -> None:
    codec = SealingCodec(Keyring({"k": OLD}))
    [payload] = await codec.encode([Payload(data=bytes(65 * 1024 * 1024))])
    with pytest.raises(DataDamaged, match="more than"):
        await codec.decode([payload])


async def test_payloads_in_clear_pass_when_a_codec_is_introduced() -> None:
    clear = await data_converter(None).encode([SECRET])
    assert await sealed_with({"k": OLD}).decode(clear) == [SECRET]


@pytest.mark.parametrize("keys", [{}, {"": OLD}, {"ä": OLD}, {"a\0": OLD}, {"short": OLD[:31]}])
def test_a_keyring_that_cannot_work_is_refused(keys: dict[str, bytes]) -> None:
    with pytest.raises(ConfigurationInvalid):
        Keyring(keys)


def secret_failure() -> ChainBusy:
    busy = ChainBusy(f"chain c1 is held: {SECRET}", hint=f"hint: {SECRET}")
    busy.__cause__ = OSError(f"reason: {SECRET}")
    return busy


@pytest.mark.parametrize("converter", CONVERTERS, ids=["clear", "sealed"])
async def test_an_error_of_ours_keeps_code_hint_and_cause_in_a_failure(
    converter: DataConverter,
) -> None:
    failure = Failure()
    await converter.encode_failure(secret_failure(), failure)
    assert failure.application_failure_info.type == "chain-busy"
    assert not failure.application_failure_info.non_retryable
    error = await converter.decode_failure(failure)
    assert isinstance(error, ApplicationError)
    assert error.message == f"chain c1 is held: {SECRET}"
    assert error.details[0]["hint"] == f"hint: {SECRET}"
    assert isinstance(error.cause, ApplicationError)
    assert error.cause.type == "OSError"


async def test_a_sealed_failure_shows_its_code_only() -> None:
    failure = Failure()
    await sealed_with({"k": OLD}).encode_failure(secret_failure(), failure)
    text = failure.SerializeToString()
    assert SECRET.encode() not in text
    assert b"chain-busy" in text
    assert failure.stack_trace == ""


async def test_a_foreign_error_keeps_its_class_as_type() -> None:
    failure = Failure()
    await data_converter(None).encode_failure(ZeroDivisionError("division"), failure)
    assert failure.application_failure_info.type == "ZeroDivisionError"
