"""How long a datastore takes to answer, and what an operator allows."""

import msgspec


class LatencyLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What is done about a slow datastore.

    A limit of 0 is none; where both are set, the first is not above the second.
    """

    start_max_ms: int = 0
    """From this latency on nothing new is begun."""
    slow_from_ms: int = 0
    """From this latency on what runs is slowed down."""
    sample_s: float = 20.0
    """Seconds from one measurement to the next."""
    removal_wait_s: float = 900.0
    """How long the removal of a snapshot waits for the datastore at most."""
    start_pause_s: float = 40.0
    """How long after the start of a copy the next one begins that reads the same datastore."""

    @property
    def is_off(self) -> bool:
        """Return whether there is no limit at all."""
        return not self.start_max_ms and not self.slow_from_ms


class DatastoreLatency(msgspec.Struct, frozen=True, kw_only=True):
    """How busy a datastore is that has limits."""

    datastore: str
    limits: LatencyLimits
    sample: int
    """Number of the measurement; a higher one is newer."""
    latency_ms: float | None
    """None: it is not known."""
    why_unknown: str = ""
