"""JSON decoders for types that are known only when they are asked for.

The library learns a type when it is first decoded, and lets other threads use what it has learnt so far: a process in
which several threads meet the same new type is killed by the operating system (seen with msgspec 0.22, in tests and in
the bench of 64 disks at once). So nothing here decodes with ``type=``: modules keep decoders of their types, made when
they are imported, and this one makes the others one at a time.
"""

import threading
from typing import Any, Final, TypeVar

import msgspec

_T = TypeVar("_T")
_lock: Final = threading.Lock()
_known: Final[dict[Any, msgspec.json.Decoder[Any]]] = {}


def decoder_of(kind: type[_T]) -> msgspec.json.Decoder[_T]:
    """Return the decoder of a type, the same each time. Raises `TypeError` for what cannot be decoded."""
    found = _known.get(kind)
    if found is None:
        with _lock:
            found = _known.setdefault(kind, _known.get(kind) or msgspec.json.Decoder(kind))
    return found


def converted(value: object, kind: type[_T]) -> _T:
    """Return what was decoded without its type as that type. Raises `msgspec.ValidationError`."""
    decoder_of(kind)
    return msgspec.convert(value, kind)
