"""Named fault points: places where a test may make the process die or an operation fail.

Product code calls `reach` just before or after a step whose loss would matter. Without a hook that costs one
comparison. Only test drivers set a hook.
"""

from collections.abc import Callable

_hook: Callable[[str], None] | None = None


def reach(name: str) -> None:
    """Pass the fault point ``name``; a hook may raise or never return."""
    if _hook is not None:
        _hook(name)


def set_hook(hook: Callable[[str], None] | None) -> None:
    """Call ``hook`` with the name of every fault point from now on; None removes it."""
    global _hook  # noqa: PLW0603 - one process-wide switch is the point
    _hook = hook
