"""Says now and then how far a command is that reads a lot by itself."""

from typing import Final

from workers.cli import wording
from workers.cli.invocation import Invocation

INTERVAL_S: Final = 5.0


class Pace:
    """Tells a person every few seconds how far something is."""

    def __init__(self, run: Invocation, what: str) -> None:
        self._run = run
        self._what = what
        self._next_s = run.clock.monotonic_s() + INTERVAL_S

    def __call__(self, done_bytes: int, all_bytes: int | None = None) -> None:
        """Say how many bytes are done, if it is time to; ``all_bytes`` None says that nobody knows of how many."""
        now_s = self._run.clock.monotonic_s()
        if now_s < self._next_s:
            return
        self._next_s = now_s + INTERVAL_S
        of = "" if all_bytes is None else f" of {wording.size(all_bytes)}"
        self._run.say(f"{self._what}: {wording.size(done_bytes)}{of}")
