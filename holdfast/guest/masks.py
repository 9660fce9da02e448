"""Masks by which an operator names files and folders of guests, such as ``/var/tmp/*`` and ``*.iso``.

A mask with a folder begins at the top of each volume: nobody outside of a guest knows its drive letters and mount
points, so a letter is passed over. One without a folder means the top of each volume, too, unless it has wildcards:
then it means every folder. ``*`` and ``?`` stand for anything but what separates names. What a folder holds goes with
the folder.
"""

import fnmatch
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import msgspec

from holdfast.errors import RequestInvalid

MASKS_MAX: Final = 256
_LENGTH_MAX: Final = 1024
_DRIVE: Final = re.compile(r"[A-Za-z]:(?=/|$)")
_VARIABLE: Final = re.compile(r"%[^%/]+%|\$\w|\$\{|^~")
_EVERYTHING: Final = re.compile(r"[*?.]*")


class FileMask(msgspec.Struct, frozen=True):
    """One mask: names from the top of a volume on, or a name that may be in any folder."""

    text: str
    parts: tuple[str, ...]
    is_anywhere: bool


def parse_mask(text: str) -> FileMask:
    """Return a mask. Raises `RequestInvalid` for one that means nothing or everything."""
    path = _DRIVE.sub("", text.strip().replace("\\", "/"), count=1)
    parts = tuple(part for part in path.split("/") if part)
    if not parts or len(text) > _LENGTH_MAX or any(part in (".", "..") for part in parts) or "\0" in text:
        raise RequestInvalid(
            f"mask {text[:100]!r} names no file", hint="Write it as `/var/tmp/*`, `C:\\pagefile.sys` or `*.iso`."
        )
    if _VARIABLE.search(path):
        raise RequestInvalid(
            f"mask {text!r} has a variable", hint="Variables of a guest are not known from outside; write the path."
        )
    if all(_EVERYTHING.fullmatch(part) and "*" in part for part in parts):
        raise RequestInvalid(
            f"mask {text!r} means every file",
            hint="Leave a disk out with `excluded_disks`, or name folders or endings.",
        )
    is_anywhere = "/" not in path and any(wildcard in path for wildcard in "*?")
    return FileMask(text, parts, is_anywhere)


def parse_masks(texts: Sequence[str]) -> tuple[FileMask, ...]:
    """Return masks, each once. Raises `RequestInvalid`."""
    if len(texts) > MASKS_MAX:
        raise RequestInvalid(f"{len(texts)} masks of files are given, more than {MASKS_MAX}")
    return tuple(parse_mask(text) for text in dict.fromkeys(texts))


@lru_cache(maxsize=1024)
def pattern(part: str, *, is_caseless: bool) -> re.Pattern[str]:
    """Return what a name has to look like to be meant by a part of a mask."""
    # What the library makes of it takes time in proportion to the name, however many wildcards there are.
    return re.compile(fnmatch.translate(part.replace("[", "[[]")), re.IGNORECASE if is_caseless else 0)
