"""The text in which LVM2 keeps its metadata: sections in braces, and keys with numbers, words and lists."""

import re
from collections.abc import Iterator
from typing import TypeAlias

from holdfast.guest.window import Implausible

Value: TypeAlias = int | float | str | list["Value"]
Section: TypeAlias = dict[str, "Value | Section"]

_TOKEN = re.compile(
    r"""(?P<gap>\s+|\#[^\n]*)
      |(?P<text>"(?:[^"\\]|\\.)*")
      |(?P<number>[-+]?\d+(?:\.\d+)?(?![\w.+-]))
      |(?P<word>[A-Za-z0-9_.+-][\w.+-]*)
      |(?P<sign>[={}\[\],])""",
    re.VERBOSE,
)
_DEPTH_MAX = 8


def parse(text: str) -> Section:
    """Return the top section. Raises `Implausible`."""
    tokens = _tokens(text)
    section = _section(tokens, 0)
    if next(tokens, None) is not None:
        raise Implausible("its LVM metadata has a brace too many")
    return section


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise Implausible(f"its LVM metadata cannot be read at character {at}")
        at = found.end()
        if found.lastgroup != "gap":
            yield str(found.lastgroup), found.group()


def _section(tokens: Iterator[tuple[str, str]], depth: int) -> Section:
    if depth > _DEPTH_MAX:
        raise Implausible("its LVM metadata is nested too deeply")
    section: Section = {}
    for kind, text in tokens:
        if text == "}" and kind == "sign" and depth:
            return section
        if kind not in ("word", "number"):
            raise Implausible(f"its LVM metadata has {text[:40]!r} where a name should be")
        _, sign = next(tokens, ("", ""))
        if sign == "{":
            section[text] = _section(tokens, depth + 1)
        elif sign == "=":
            section[text] = _value(tokens)
        else:
            raise Implausible(f"its LVM metadata says nothing of {text[:40]!r}")
    if depth:
        raise Implausible("its LVM metadata ends inside a section")
    return section


def _value(tokens: Iterator[tuple[str, str]]) -> Value:
    kind, text = next(tokens, ("", ""))
    if text == "[" and kind == "sign":
        return _list(tokens)
    return _scalar(kind, text)


def _list(tokens: Iterator[tuple[str, str]]) -> list[Value]:
    values: list[Value] = []
    for kind, text in tokens:
        if kind == "sign" and text == "]":
            return values
        if not (kind == "sign" and text == ","):
            values.append(_scalar(kind, text))
    raise Implausible("its LVM metadata ends inside a list")


def _scalar(kind: str, text: str) -> int | float | str:
    if kind == "text":
        return text[1:-1]
    if kind == "number":
        return float(text) if "." in text else int(text)
    raise Implausible(f"its LVM metadata has {text[:40]!r} where a value should be")
