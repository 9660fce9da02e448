"""Write the tables of messages and the worked example of docs/formats/mover-protocol.md from the code.

Usage: .venv/bin/python -m scripts.mover_page

Everything outside of the marked parts is kept as it is.
"""

import ast
from enum import IntEnum
from itertools import pairwise
from pathlib import Path
from typing import get_args

import msgspec
from msgspec import inspect

from holdfast.formats.magic import Codec
from holdfast.formats.mover import messages
from holdfast.formats.mover.bodies import pack_pieces
from holdfast.formats.mover.events import LinkOptions
from holdfast.formats.mover.greeting import Dialler, Hello, Listener, Refusal
from holdfast.formats.mover.link import Link
from holdfast.formats.mover.messages import (
    AnyHead,
    Digests,
    Head,
    KeptFile,
    Offer,
    OpenDisk,
    Runs,
    StoredUnit,
    Unit,
    Wanted,
    encode_message,
)
from holdfast.formats.mover.outbox import OutFrame

PAGE = Path(__file__).resolve().parent.parent / "docs" / "formats" / "mover-protocol.md"

SESSION, TOKEN = bytes([0x55]) * 16, bytes([0xAA]) * 32
DIALLER_NONCE, LISTENER_NONCE = bytes([0xDD]) * 32, bytes([0xEE]) * 32
OPENING = OpenDisk(grant='{"repository":"vault","chain":"web/chain-1","number":1,"disk":"disk-0"}')
UNIT = Unit(number=0, count=1, codec=Codec.NONE, body_crc=0x89ABCDEF)
UNIT_BODY = pack_pieces([3], [bytes(range(16))]) + b"packed"
LINE = 16

BODIES: dict[type[Head], str] = {
    Offer: "`count` x 16: the digests",
    Digests: "`count` x 16: the digests",
    KeptFile: "0 to 1048576: the bytes of the file",
    Wanted: "one bit for each of `count` pieces, lowest bit of the first byte first, the last byte filled with zeros",
    Unit: "`count` x 4: the piece numbers; `count` x 16: their digests; the packed bytes, 1 to `count` x 65536",
    Runs: "`count` x 12: the runs",
    StoredUnit: "`count` x 16: the digests of its places; the packed bytes, 1 to `count` x 65536",
}

GROUPS = (("From the proxy", 1), ("Backup, from the repository", 33),
          ("Restore, from the proxy", 65), ("Restore, from the repository", 97))  # fmt: skip

EXAMPLE = """\
Session `{session}`, token `{token}`, attempt 1, connection 0 of 1.
Each block begins at offset 0 of its message or frame.

### The greeting

Hello:

```hex
{hello}
```

Welcome:

```hex
{welcome}
```

Proof:

```hex
{proof}
```

Verdict:

```hex
{verdict}
```

### The first frames

The dialler's first frame is an ack; the listener's says the same with the same window of {window} bytes:

```hex
{ack}
```

The dialler opens a disk. Message 0 has {opening_length} bytes, of which the head has {head_length}:

```hex
{opening}
```

The listener's ack of it:

```hex
{answer}
```

The dialler sends unit 0 with piece 3, and the line changes its last byte; what arrives is:

```hex
{unit}
```

The listener's nack of message 1:

```hex
{nack}
```
"""


def page_with(text: str) -> str:
    """Return the page with its parts made anew."""
    parts = {"messages": "".join(map(group, GROUPS)), "example": EXAMPLE.format(**example())}
    for name, part in parts.items():
        before, begin, rest = text.partition(f"<!-- {name}, made by scripts/mover_page.py -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->\n")
        assert begin, name
        assert end, name
        text = f"{before}{begin}\n{part}{end}{after}"
    return text


def group(named: tuple[str, int]) -> str:
    """Return the part of one direction: what its messages mean, and their members."""
    title, first = named
    kinds = [kind for kind in get_args(AnyHead) if first <= tag(kind) < first + 32]
    lines = [f"### {title}", "", "| Number | Message | Meaning |", "|---|---|---|"]
    lines += [f"| {tag(kind)} | `{kind.__name__}` | {meaning(kind)} |" for kind in kinds]
    lines += ["", "| Message | Member | Allowed | Default | Meaning |", "|---|---|---|---|---|"]
    for kind in kinds:
        meanings = PLAIN | MEANINGS[kind.__name__]
        lines += [member(kind, field, meanings[field.name]) for field in shape(kind).fields]
        if kind in BODIES:
            lines.append(f"| `{kind.__name__}` | body | {BODIES[kind]} | | |")
    return "\n".join(lines) + "\n\n"


def shape(kind: type[Head]) -> inspect.StructType:
    """Return what msgspec knows of a head."""
    found = inspect.type_info(kind)
    assert isinstance(found, inspect.StructType)
    return found


def tag(kind: type[Head]) -> int:
    """Return the number of a message."""
    found = shape(kind).tag
    assert isinstance(found, int)
    return found


def meaning(kind: type[Head]) -> str:
    """Return the first line of the docstring."""
    return (kind.__doc__ or "").splitlines()[0].replace("``", "`")


def described() -> dict[str, dict[str, str]]:
    """Return what the source says of each member of each message: the string that stands behind it."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(Path(messages.__file__).read_text()).body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = {}
            for before, after in pairwise(node.body):
                if isinstance(before, ast.AnnAssign) and isinstance(after, ast.Expr):
                    words = " ".join(str(ast.literal_eval(after.value)).split())
                    found[node.name][ast.unparse(before.target)] = words.replace("``", "`")
    return found


MEANINGS = described()
PLAIN = {
    "first": "the first piece that the message speaks of",
    "count": "how many pieces, digests, runs or places it speaks of",
    "until": "the first piece behind those it speaks of",
    "number": "of the unit in its file",
    "file": "index of the file that holds it, as in `Runs`",
    "codec": "how the packed bytes were compressed",
    "name": "of the file in the point",
    "reason": "why, for people",
    "detail": "how the disk is read and why, for people",
    "machine": "name of the machine, for words about it",
    "size_bytes": "of the disk",
    "digest_key": "secret of the chain with which pieces are digested",
    "code": "one of the [error codes](../reference/errors.md)",
    "message": "what happened, for people",
    "hint": "what can be done, for people",
}
"""What members mean of which the source says no more than their name."""


def member(kind: type[Head], field: inspect.Field, words: str) -> str:
    """Return the row of a member."""
    default = "" if field.default is msgspec.NODEFAULT else repr(field.default).replace("''", "empty")
    return f"| `{kind.__name__}` | `{field.name}` | {allowed(field.type)} | {default} | {words} |"


def allowed(kind: inspect.Type) -> str:
    """Return in words what a member may be."""
    match kind:
        case inspect.IntType():
            return integers(kind)
        case inspect.StrType():
            shape = f", of the form `{kind.pattern}`" if kind.pattern else ""
            return f"text of {kind.min_length or 0} to {kind.max_length} characters{shape}"
        case inspect.BytesType():
            return f"{kind.max_length} bytes"
        case inspect.EnumType():
            return ", ".join(enumerated(kind))
        case inspect.FloatType():
            return f"a number from {kind.ge} on"
        case _:
            return composed(kind)


def composed(kind: inspect.Type) -> str:
    """Return in words what a member of several parts may be."""
    match kind:
        case inspect.BoolType():
            return "true or false"
        case inspect.UnionType():
            return " or ".join("nil" if isinstance(part, inspect.NoneType) else allowed(part) for part in kind.types)
        case inspect.StructType():
            return "an object, `left_out` of the [chain file](chain-file.md)"
        case inspect.VarTupleType():
            return f"a list of at most {kind.max_length}: {allowed(kind.item_type)}"
        case _:
            raise AssertionError(kind)


def integers(kind: inspect.IntType) -> str:
    """Return in words which integers are allowed."""
    if kind.ge is None:
        return "a unit size of the chain file"
    most = kind.le if kind.le is not None else (kind.lt or 0) - 1
    steps = f", a multiple of {kind.multiple_of}" if kind.multiple_of else ""
    return f"{kind.ge} to {most}{steps}"


def enumerated(kind: inspect.EnumType) -> list[str]:
    """Return the values of an enumeration; numbers with their names."""
    if issubclass(kind.cls, IntEnum):
        return [f"{value.value} {value.name.lower()}" for value in kind.cls]
    return [f"`{value.value}`" for value in kind.cls]


def example() -> dict[str, object]:
    """Return what is shown in the worked example."""
    dialler = Dialler(Hello(session=SESSION, attempt=1, connection=0, connections=1, nonce=DIALLER_NONCE), TOKEN)
    listener = Listener(LISTENER_NONCE, {SESSION: TOKEN}.get, lambda _: Refusal.NONE)
    welcome = listener.receive(dialler.hello)
    proof = dialler.receive(welcome)
    shown = {"hello": dialler.hello, "welcome": welcome, "proof": proof, "verdict": listener.receive(proof)}
    shown |= frames()
    opening = b"".join(encode_message(OPENING))
    return {name: "\n".join(hex_lines(data)) for name, data in shown.items()} | {
        "session": SESSION.hex(),
        "token": TOKEN.hex(),
        "window": LinkOptions().receive_window,
        "opening_length": len(opening),
        "head_length": len(msgspec.msgpack.encode(OPENING)),
    }


def frames() -> dict[str, bytes]:
    """Return the frames of the worked example."""
    here, there = (Link(LinkOptions(), 0.0, is_dialler=side) for side in (True, False))
    for link in (here, there):
        link.connection_made(0, 0.0)
    ack = moved(here, there)
    moved(there, here)
    here.send(OutFrame(encode_message(OPENING)))
    opening = moved(here, there)
    answer = moved(there, here)
    here.send(OutFrame(encode_message(UNIT, UNIT_BODY)))
    damaged = bytearray(b"".join(here.take_output(0, 1 << 20, 0.0)))
    damaged[-1] ^= 1
    there.receive(0, damaged, 0.0)
    nack = moved(there, here)
    return {"ack": ack, "opening": opening, "answer": answer, "unit": bytes(damaged), "nack": nack}


def moved(source: Link, target: Link) -> bytes:
    """Bring over what one side sends, and return it."""
    data = b"".join(source.take_output(0, 1 << 20, 0.0))
    target.receive(0, data, 0.0)
    return data


def hex_lines(data: bytes) -> list[str]:
    """Return all lines of some bytes."""
    return [f"{at:06x}  {data[at : at + LINE].hex(' ')}" for at in range(0, len(data), LINE)]


if __name__ == "__main__":
    PAGE.write_text(page_with(PAGE.read_text()))
