"""Times of the configuration: five cron fields, in the words that Temporal understands."""

import re
from typing import Final

from holdfast.errors import ConfigurationInvalid

_FIELDS: Final = 5
_FIELD: Final = re.compile(r"[0-9A-Za-z*,/-]+")


def check_cron(what: str, text: str | None) -> None:
    """Raise `ConfigurationInvalid` for a text that cannot be five cron fields; None is no time at all."""
    fields = [] if text is None else text.split()
    if text is not None and not (len(fields) == _FIELDS and all(map(_FIELD.fullmatch, fields))):
        hint = "Give five fields: minute, hour, day of month, month, day of week; `0 22 * * *` is ten at night."
        raise ConfigurationInvalid(f"{what} is {text!r}", hint=hint)
