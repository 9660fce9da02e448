"""What is wrong with a configuration file, in the words of the file."""

import difflib
import re
from collections.abc import Sequence
from typing import Any, get_args, get_origin, get_type_hints

from holdfast.errors import ConfigurationInvalid
from workers.provider_settings import KIND, KINDS

_UNKNOWN_KIND = re.compile(r"Invalid value (?P<kind>'.*') - at `\$(?P<place>\.providers\[\d+\])\.kind`")
_UNKNOWN_KEY = re.compile(r"Object contains unknown field `(?P<key>.*?)`(?: - at `\$(?P<place>.*)`)?")
_WRONG_VALUE = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<place>.*)`)?")


def nearest(word: str, known: Sequence[str]) -> str:
    """Return the sentence that leads from a wrong word to a right one."""
    if not known:
        return "There are none in the configuration."
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"Did you mean `{close[0]}`?" if close else f"Known are: {', '.join(sorted(known))}."


def complaint(told: str, raw: dict[str, Any], root: type, where: str) -> ConfigurationInvalid:
    """Return what msgspec ``told`` of the structure ``root`` in the words of the file."""
    kind = _UNKNOWN_KIND.fullmatch(told)
    if kind is not None:
        place = _named_place(kind["place"], raw)
        return ConfigurationInvalid(
            f"{where}: unknown kind {kind['kind']}{place}", hint=f"Known kinds of provider are: {', '.join(KINDS)}."
        )
    unknown = _UNKNOWN_KEY.fullmatch(told)
    if unknown is not None:
        place, key = unknown["place"] or "", unknown["key"]
        known = _keys_at(place, raw, root)
        return ConfigurationInvalid(f"{where}: unknown key {key!r}{_named_place(place, raw)}", hint=nearest(key, known))
    wrong = _WRONG_VALUE.fullmatch(told)
    assert wrong is not None, told
    what = wrong["what"].replace("Object missing required field", "missing key")
    return ConfigurationInvalid(f"{where}: {what[:1].lower()}{what[1:]}{_named_place(wrong['place'] or '', raw)}")


def _named_place(place: str, raw: dict[str, Any]) -> str:
    """Return ``place`` (``.jobs[0].tasks``) as people say it, with the name of the entry when it has one."""
    if not place:
        return ""
    entry = re.match(r"\.(\w+)\[(\d+)\]", place)
    called = ""
    if entry is not None:
        table = raw[entry[1]][int(entry[2])]
        name = table.get("name") if isinstance(table, dict) else None
        called = f" ({name})" if isinstance(name, str) else ""
    return f" at {place.lstrip('.')}{called}"


def _keys_at(place: str, raw: dict[str, Any], root: type) -> tuple[str, ...]:
    """Return the keys that may stand at ``place``."""
    provider = re.fullmatch(r"\.providers\[(\d+)\](?:\.(\w+)\[\.\.\.\])?", place)
    if provider is not None:
        table: Any = KINDS[raw["providers"][int(provider[1])][KIND]]
        if provider[2]:  # a table of tables, by name
            return tuple(get_args(get_type_hints(table)[provider[2]])[1].__struct_fields__)
        return (KIND, *table.__struct_fields__)
    kind: Any = root
    for word in re.findall(r"\w+", re.sub(r"\[\d+\]", "", place)):
        kind = _struct_in(get_type_hints(kind).get(word, root))
    return tuple(kind.__struct_fields__)


def _struct_in(hint: Any) -> Any:  # noqa: ANN401 - type hints have no type of their own
    """Return the struct inside a type hint such as ``tuple[Struct, ...]`` or ``Struct | None``."""
    return next((_struct_in(inner) for inner in get_args(hint)), hint) if get_origin(hint) else hint
