"""Who is held back now: what a worker keeps in a file of its home while it holds transfers, for `holdfast doctor`."""

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from holdfast.pipeline.throttle import Held

STALE_S: Final = 10.0
"""A file that was not written for so long is of a worker that was killed."""
_FOLDER: Final = "throttling"


class HeldNow(msgspec.Struct, frozen=True, kw_only=True):
    """A transfer under a limit."""

    label: str
    """What is moved."""
    because: str
    """The limit."""
    rate_bytes_s: float


_LIST_HELD_NOW_DECODER: Final = msgspec.json.Decoder(list[HeldNow])


class StatusFile:
    """The file of one worker process; it is there while transfers are held."""

    def __init__(self, home: Path, pid: int) -> None:
        self._path = home / _FOLDER / f"{pid}.json"

    def write(self, held: Iterable[Held]) -> None:
        """Say who is held now. What cannot be written is not told."""
        found = [
            HeldNow(label=one.transfer.label, because=one.because, rate_bytes_s=one.rate_bytes_s)
            for one in held
            if one.rate_bytes_s is not None
        ]
        if not found:
            self.remove()
            return
        with suppress(OSError):
            self._path.parent.mkdir(exist_ok=True)
            draft = self._path.with_suffix(".new")
            draft.write_bytes(msgspec.json.encode(found))
            draft.replace(self._path)

    def remove(self) -> None:
        """Say that nobody is held."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def held_now(home: Path, now: datetime) -> list[HeldNow]:
    """Return who is held by the workers that have this home."""
    found: list[HeldNow] = []
    for path in sorted((home / _FOLDER).glob("*.json")):
        with suppress(OSError, msgspec.DecodeError):  # it has just ended
            if now.timestamp() - path.stat().st_mtime < STALE_S:
                found += _LIST_HELD_NOW_DECODER.decode(path.read_bytes())
    return found
