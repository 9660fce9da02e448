"""Figures are worded so that nothing is claimed that is not so."""

from datetime import UTC, datetime

import pytest

from workers.cli import wording


@pytest.mark.parametrize(
    "count, text",
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (10 << 10, "10 KiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (1 << 20, "1.0 MiB"),
        (3 << 40, "3.0 TiB"),
        (5000 << 50, "5000 PiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert wording.size(count) == text


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (59.4, "59 s"),
        (60, "1 min 00 s"),
        (3599, "59 min 59 s"),
        (3660, "1 h 01 min"),
        (90000, "1 d 01 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert wording.duration(seconds) == text


@pytest.mark.parametrize(
    "part, whole, text",
    [(0, 10, "0 %"), (9999, 10000, "99 %"), (10, 10, "100 %"), (11, 10, "100 %"), (0, 0, "-")],
)
def test_a_share_is_never_all_before_it_is(part: int, whole: int, text: str) -> None:
    assert wording.share(part, whole) == text


def test_rates_moments_and_counts() -> None:
    assert wording.rate(3 << 20) == "3.0 MiB/s"
    assert wording.moment(None) == "-"
    assert wording.moment(datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC).astimezone()).startswith("2025-01-0")
    assert [wording.count(n, "disk") for n in (0, 1, 2)] == ["0 disks", "1 disk", "2 disks"]
