"""How far a command is, is told every few seconds and not more often."""

import pytest
from typing_extensions import override

from holdfast.clock import SystemClock
from workers.cli.invocation import Flags, Invocation
from workers.cli.pace import INTERVAL_S, Pace


class HandClock(SystemClock):
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now_s = 0.0

    @override
    def monotonic_s(self) -> float:
        return self.now_s


def test_progress_is_told_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    clock = HandClock()
    pace = Pace(Invocation(Flags(), clock), "reading [x]")
    pace(1 << 20)
    clock.now_s += INTERVAL_S
    pace(2 << 20)
    pace(3 << 20)
    clock.now_s += INTERVAL_S
    pace(4 << 20, 8 << 20)
    assert capsys.readouterr().err.splitlines() == ["reading [x]: 2.0 MiB", "reading [x]: 4.0 MiB of 8.0 MiB"]
