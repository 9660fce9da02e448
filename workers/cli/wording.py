"""How figures are worded for people: sizes, rates, durations, times."""

from datetime import datetime
from typing import Final

from holdfast.model.words import count_text

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP = 1024
_MINUTE_S = 60
_HOUR_S = 3600
_DAY_S = 86400
_TENTHS_BELOW = 10


def size(count: float) -> str:
    """Return a number of bytes in the unit that suits it, such as ``1.5 GiB``."""
    value = float(count)
    for unit in _UNITS:
        # What would be shown as 1024 belongs to the next unit.
        if round(value) < _STEP or unit == _UNITS[-1]:
            break
        value /= _STEP
    shown = f"{value:.1f}" if value < _TENTHS_BELOW and unit != "B" else f"{value:.0f}"
    return f"{shown} {unit}"


def rate(bytes_per_s: float) -> str:
    """Return a data rate such as ``310 MiB/s``."""
    return f"{size(bytes_per_s)}/s"


def duration(seconds: float) -> str:
    """Return a length of time in its two largest units, such as ``1 h 05 min``."""
    if seconds < _TENTHS_BELOW:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S:02d} s"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S:02d} min"
    return f"{whole // _DAY_S} d {whole % _DAY_S // _HOUR_S:02d} h"


def share(part: float, whole: float) -> str:
    """Return ``part`` of ``whole`` in per cent; never 100 % before it is all."""
    if whole <= 0:
        return "-"
    percent = 100 * part / whole
    return f"{min(int(percent), 99)} %" if part < whole else "100 %"


def moment(value: datetime | None) -> str:
    """Return a time in the zone of the host, or a dash."""
    return "-" if value is None else value.astimezone().strftime("%Y-%m-%d %H:%M:%S")


count: Final = count_text
