"""A clock that stands still until a test or a pause moves it."""

from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 5, 12, tzinfo=UTC)  # a Monday


class SteppedClock:
    """Time passes while somebody pauses; ``step_s`` moves the wall clock alone."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.step_s = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds - 1000.0 + self.step_s)

    def monotonic_s(self) -> float:
        return self.seconds

    def pause(self, seconds: float) -> None:
        self.seconds += seconds
