"""The notes of a chain's points: read as they were written, or not at all."""

from datetime import UTC, date, datetime

import msgspec
import pytest

from holdfast.errors import FileDamaged, FormatTooNew
from holdfast.formats.chain_keep import ChainKeep, NotedOwner, decode_keep, encode_keep, peek_keep
from holdfast.formats.keys import ChainKeys, PassphraseCost, new_encrypted_keys, plain_keys
from holdfast.model.ids import MachineId, PointId
from holdfast.model.retention import CalendarMark, MarkKind, PointNote

CHAIN_ID = bytes(range(16))
KEYS = plain_keys(CHAIN_ID)
CHEAP = PassphraseCost(memory_kib=64, iterations=1, lanes=1)
SECRET = new_encrypted_keys(CHAIN_ID, "open sesame", bytes(range(60)), CHEAP)
DAY = date(2026, 11, 7)
KEEP = ChainKeep(
    chain=CHAIN_ID.hex(),
    sequence=3,
    points=(
        PointNote(
            point_id=PointId("ab" * 16),
            day=DAY,
            marks=(CalendarMark(kind=MarkKind.WEEKLY, given=DAY),),
            locked_until=datetime(2026, 12, 1, tzinfo=UTC),
        ),
    ),
)


@pytest.mark.parametrize("keys", [KEYS, SECRET], ids=["plain", "encrypted"])
def test_notes_are_read_as_they_were_written(keys: ChainKeys) -> None:
    assert decode_keep(encode_keep(KEEP, keys), keys) == KEEP


def test_what_is_said_can_be_seen_without_a_key() -> None:
    assert peek_keep(encode_keep(KEEP, SECRET)) == KEEP
    assert peek_keep(b'{"keep": {"format": "one"}, "seal": ""}') is None


def test_every_changed_byte_is_noticed() -> None:
    data = encode_keep(KEEP, KEYS)
    for position in range(len(data) - 1):
        changed = bytearray(data)
        changed[position] ^= 1
        with pytest.raises(FileDamaged):
            decode_keep(bytes(changed), KEYS)


def test_a_seal_made_without_the_passphrase_is_refused() -> None:
    with pytest.raises(FileDamaged, match="seal"):
        decode_keep(encode_keep(KEEP, KEYS), SECRET)


def test_notes_of_another_chain_are_refused() -> None:
    other = msgspec.structs.replace(KEEP, chain="ff" * 16)
    with pytest.raises(FileDamaged, match="belongs to chain"):
        decode_keep(encode_keep(other, KEYS), KEYS)


def test_a_later_version_is_refused_as_such() -> None:
    later = msgspec.structs.replace(KEEP, format=3)
    with pytest.raises(FormatTooNew):
        decode_keep(encode_keep(later, KEYS), KEYS)


def test_with_an_owner_the_notes_have_a_format_that_readers_without_owners_refuse() -> None:
    owner = NotedOwner(folder="web-1a2b3c4d", machine_id=MachineId("m2"), machine_name="web", named=2, mapped=1)
    owned = KEEP.owned_by(owner)
    assert (KEEP.format, owned.format, owned.sequence) == (1, 2, KEEP.sequence + 1)
    assert decode_keep(encode_keep(owned, KEYS), KEYS) == owned
