"""How long is waited for what a hypervisor does in its own time; providers and workflows agree on it."""

from datetime import timedelta
from typing import Final

FOLDING: Final = timedelta(hours=4)
"""Folding what was written beside a snapshot back into its disk takes hours on a busy datastore."""

FOLDING_BY_OTHERS: Final = timedelta(minutes=45)
"""How long one attempt at a snapshot waits while somebody else's is folded back; the next attempt waits on."""
