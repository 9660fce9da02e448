"""Names as people write them, and as vSphere keeps them."""


def plain_name(name: str) -> str:
    """Return a name as people wrote it: vSphere escapes three characters in names."""
    return name.replace("%2f", "/").replace("%5c", "\\").replace("%25", "%")


def escaped_name(name: str) -> str:
    """Return a name as vSphere wants it."""
    return name.replace("%", "%25").replace("/", "%2f").replace("\\", "%5c")
