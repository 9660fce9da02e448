"""What becomes of archives, and until when one is kept; docs/archives.md has the rules in words.

An archive goes by its own expiry alone: no rule of a job and no other archive has a say in it.
"""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta

import msgspec

from holdfast.errors import RequestInvalid
from holdfast.model.archives import Archive
from holdfast.model.retention import ChainFact, FileFact
from holdfast.planning.retention import PointVerdict, Removal, RetentionPlan, Verdict

NEVER = "never"
_SPAN = re.compile(r"([1-9]\d{0,3})([dw])")
_DAYS = {"d": 1, "w": 7}
_HINT = "Write a number of days or weeks, such as `30d` or `8w`, or the last day on which it is kept: `2027-06-30`."


class ArchiveFact(msgspec.Struct, frozen=True, kw_only=True):
    """An archive as retention sees it."""

    chain: ChainFact
    expires: tuple[datetime | None, ...]
    """For each of its files from when on it may go; None: never, or it is not known."""


def plan_archives(archives: Sequence[ArchiveFact], now: datetime) -> RetentionPlan:
    """Return what is done with archives: one goes as a whole when it has expired, and no lock holds it."""
    points: list[PointVerdict] = []
    removals: list[Removal] = []
    for archive in archives:
        said = [_kept_by(file.point.locked_until, expires, now) for file, expires in _files(archive)]
        is_kept = any(said)
        points += [
            PointVerdict(
                chain=archive.chain.chain,
                number=file.point.number,
                point_id=file.point.point_id,
                day=file.point.day,
                verdict=Verdict.KEPT if is_kept else Verdict.DELETED,
                reason=reason or f"archive, expired {_moment(expires)}",
            )
            for (file, expires), reason in zip(_files(archive), said, strict=True)
        ]
        if not is_kept:
            removals.append(_removal(archive.chain))
    return RetentionPlan(points=tuple(points), removals=tuple(removals))


def kept_words(archive: Archive) -> str:
    """Return in words until when an archive is kept."""
    if archive.expires is None:
        return "kept for ever"
    return f"kept until {_moment(archive.expires)}"


def parse_expiry(text: str, now: datetime) -> datetime | None:
    """Return until when something is kept: `never`, days or weeks from now on, or the end of a day in UTC.

    Raises `RequestInvalid` for what cannot be read, and for a moment that is past.
    """
    words = text.strip().lower()
    if words == NEVER:
        return None
    found = _SPAN.fullmatch(words)
    if found is not None:
        return now + timedelta(days=int(found[1]) * _DAYS[found[2]])
    try:
        day = date.fromisoformat(words)
        expires = datetime.combine(day + timedelta(days=1), time(), UTC)
    except (ValueError, OverflowError) as error:
        raise RequestInvalid(f"{text!r} is no time to keep something for", hint=_HINT) from error
    if expires <= now:
        raise RequestInvalid(f"{text} is past", hint=_HINT)
    return expires


def _files(archive: ArchiveFact) -> list[tuple[FileFact, datetime | None]]:
    return list(zip(archive.chain.files, archive.expires, strict=True))


def _kept_by(locked_until: datetime | None, expires: datetime | None, now: datetime) -> str:
    """Return what keeps a point of an archive; empty when nothing does any more."""
    said = []
    if expires is None:
        said.append("archive, kept for ever")
    elif expires > now:
        said.append(f"archive, kept until {_moment(expires)}")
    if locked_until is not None and locked_until > now:
        said.append(f"locked until {_moment(locked_until)}")
    return ", ".join(said)


def _moment(moment: datetime | None) -> str:
    assert moment is not None, "only what has expired says when"
    return moment.isoformat(timespec="minutes")


def _removal(chain: ChainFact) -> Removal:
    return Removal(
        chain=chain.chain,
        files=tuple(file.name for file in reversed(chain.files)),
        bytes_freed=sum(file.size_bytes for file in chain.files),
        is_whole_chain=True,
    )
