"""For how many days what was removed from a chain was promised to stay: a small file beside it.

It is written before anything is removed, so a removal that dies half way has given its word already. Without the file,
or with a damaged one, nothing was promised and the rules of today hold.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec

from holdfast.storage.files.atomic import Files
from holdfast.storage.files.chain_lock import acquire_chain_lock

PROMISES_NAME: Final = "removed.json"
DAYS_MAX: Final = 9999


class Promises(msgspec.Struct, frozen=True, kw_only=True):
    """Content of the file."""

    format: int = 1
    days: dict[str, Annotated[int, msgspec.Meta(ge=0, le=DAYS_MAX)]]
    """By the name that the file had in its chain."""


_PROMISES_DECODER: Final = msgspec.json.Decoder(Promises)


def read_promises(files: Files, folder: Path) -> dict[str, int]:
    """Return for how many days files of a chain were promised to stay once they are removed."""
    path = folder / PROMISES_NAME
    if not files.exists(path):
        return {}
    try:
        return _PROMISES_DECODER.decode(files.read(path)).days
    except msgspec.DecodeError:
        return {}


def promise(files: Files, folder: Path, names: Sequence[str], days: int) -> None:
    """Promise that files of a chain stay for so many days once they are removed. Raises `ChainBusy`.

    One of the same name that was removed before and is still there keeps its longer time. What was said of files that
    are there no more, removed or not, is forgotten.
    """
    lock = acquire_chain_lock(files, folder)
    try:
        known, there = read_promises(files, folder), files.names(folder)
        kept = {name: said for name, said in known.items() if any(one.startswith(f"{name}.removed-") for one in there)}
        wanted = kept | {name: max(days, kept.get(name, 0)) for name in names}
        if wanted != known:
            files.replace(folder / PROMISES_NAME, msgspec.json.encode(Promises(days=wanted)))
    finally:
        lock.close()
