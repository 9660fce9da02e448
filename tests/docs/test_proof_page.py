"""docs/formats/proof.md is true: its tables name every member, and its example is checked by the page alone."""

import hashlib
import json

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from holdfast.formats.proof import ProvedFile, ProvedPoint, ProvedReading, Statement
from tests.docs.format_pages import ROOT, blocks, quoted, section, tables

PAGE = ROOT / "docs" / "formats" / "proof.md"
GOLDEN = ROOT / "tests" / "golden" / "proof"
TABLES = tables(section(PAGE, "The statement"))


@pytest.mark.parametrize(
    "number, heading, kind",
    [
        (0, "Member", Statement),
        (1, "Member of `point`", ProvedPoint),
        (2, "Member of `files`", ProvedFile),
        (3, "Member of `reading`", ProvedReading),
    ],
)
def test_every_member_is_told(number: int, heading: str, kind: type[msgspec.Struct]) -> None:
    told = [word for row in TABLES[number] for word in quoted(row[heading])]
    assert told == list(kind.__struct_fields__)


def test_the_example_is_the_golden_proof() -> None:
    (shown,) = blocks(PAGE.read_text(), "json")
    assert shown.replace("\n", "") + "\n" == (GOLDEN / "v1.json").read_text()
    (pem,) = blocks(PAGE.read_text(), "pem")
    assert pem == (GOLDEN / "v1.pub").read_text()


def test_the_example_is_checked_by_what_the_page_says() -> None:
    """Written from the page, with nothing of the product."""
    data = (GOLDEN / "v1.json").read_bytes()
    document = json.loads(data)
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
    assert canonical.encode() == data
    assert document["proof"] == 1
    key = load_pem_public_key((GOLDEN / "v1.pub").read_bytes())
    assert isinstance(key, Ed25519PublicKey)
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert hashlib.sha256(raw).hexdigest() == document["key"]
    start = data.index(b'"statement":') + len(b'"statement":')
    signed = b"holdfast proof 1\n" + data[start:-2]
    assert len(signed) == 17 + len(data[start:-2])
    key.verify(bytes.fromhex(document["signature"]), signed)
    for file in document["statement"]["files"]:
        content = (ROOT / "tests" / "golden" / "v1" / "plain-zstd" / file["name"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file["size"], file["sha256"])
