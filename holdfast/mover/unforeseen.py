"""Errors that nobody thought of: the other side hears of them too."""

import logging

from holdfast.errors import HoldfastError, LinkLost

_log = logging.getLogger(__name__)


def told(error: Exception) -> HoldfastError:
    """Return what to tell the other side of an error of the repository's side, which is logged when it is none of ours.

    A host that is short of something is worth another attempt; anything else is a defect.
    """
    if isinstance(error, HoldfastError):
        return error
    _log.error("a session of the mover failed", exc_info=error)
    words = f"the repository's mover failed with {type(error).__name__}: {error}"
    return LinkLost(words) if isinstance(error, MemoryError | OSError) else HoldfastError(words)
