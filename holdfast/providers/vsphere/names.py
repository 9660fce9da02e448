"""Names as people write them, and as vSphere keeps them."""

import re
from typing import Final

_LONE_PERCENT: Final = re.compile("%(?!2f|5c|25)", re.IGNORECASE)


def plain_name(name: str) -> str:
    """Return a name as people wrote it: vSphere escapes three characters in names."""
    return name.replace("%2f", "/").replace("%5c", "\\").replace("%25", "%")


def escaped_name(name: str) -> str:
    """Return a name as vSphere wants it."""
    return name.replace("%", "%25").replace("/", "%2f").replace("\\", "%5c")


def completed_name(name: str) -> str:
    """Return a name that may have escapes already as vSphere wants it: what is no escape yet becomes one."""
    return _LONE_PERCENT.sub("%25", name).replace("/", "%2f").replace("\\", "%5c")
