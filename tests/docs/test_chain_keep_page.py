"""The page of the keep file names every key there is, and a file made by its words is read."""

import json

from blake3 import blake3

from holdfast.formats.chain_keep import KEEP_VERSION, ChainKeep, decode_keep
from holdfast.formats.keys import plain_keys
from holdfast.model.retention import MarkKind, PointNote
from tests.architecture import tree
from tests.docs import pages

PAGE = "docs/formats/chain-keep.md"


def keys_of(heading: str) -> list[str]:
    return [name for cells in pages.rows(PAGE, heading) for name in pages.names_in(cells[0])]


def test_the_keys_are_those_of_the_code() -> None:
    assert keys_of("Key of `keep`") == list(ChainKeep.__struct_fields__)
    assert sorted(keys_of("Key of a note")) == sorted(PointNote.__struct_fields__)
    assert all(f"`{kind}`" in tree.text(PAGE) for kind in MarkKind)


def test_a_file_made_as_the_page_says_is_read() -> None:
    keys = plain_keys(bytes(range(16)))
    note = {"point_id": "ab" * 16, "day": "2026-11-07", "marks": [{"kind": "weekly", "given": "2026-11-07"}]}
    keep = json.dumps({"format": KEEP_VERSION, "chain": keys.chain_id.hex(), "sequence": 1, "points": [note]})
    context = b"holdfast chain.keep"
    assert len(context) == 19
    seal = blake3(context + keep.encode(), key=keys.metadata_seal_key).hexdigest()
    found = decode_keep(f'{{"keep": {keep}, "seal": "{seal}"}}\n'.encode(), keys)
    assert found.points[0].locked_until is None
