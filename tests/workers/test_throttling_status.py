"""Workers say in files who is held back now; what cannot be read says nothing."""

import os
from pathlib import Path

from holdfast.clock import SystemClock
from holdfast.model.ids import RepositoryName
from holdfast.pipeline.throttle import Held
from holdfast.planning.throttling import Direction, Transfer
from workers.throttling_status import STALE_S, HeldNow, StatusFile, held_now

CLOCK = SystemClock()


def held(label: str, rate: float | None = 4e6) -> Held:
    transfer = Transfer(repository=RepositoryName("main"), direction=Direction.WRITE, label=label)
    return Held(transfer=transfer, rate_bytes_s=rate, because="throttling rule wan" if rate else "", passed_bytes=5)


def test_what_all_workers_hold_is_found_and_what_is_free_is_not(tmp_path: Path) -> None:
    one, other = StatusFile(tmp_path, 1), StatusFile(tmp_path, 2)
    assert held_now(tmp_path, CLOCK.now()) == []
    one.write([held("disk a of web"), held("disk b of web", None)])
    other.write([held("disk a of db", 5e5)])
    assert held_now(tmp_path, CLOCK.now()) == [
        HeldNow(label="disk a of web", because="throttling rule wan", rate_bytes_s=4e6),
        HeldNow(label="disk a of db", because="throttling rule wan", rate_bytes_s=5e5),
    ]
    one.write([held("disk b of web", None)])
    other.remove()
    assert held_now(tmp_path, CLOCK.now()) == []
    other.remove()


def test_files_of_workers_that_were_killed_and_damaged_ones_say_nothing(tmp_path: Path) -> None:
    StatusFile(tmp_path, 1).write([held("disk a of web")])
    (file,) = (tmp_path / "throttling").iterdir()
    seconds = file.stat().st_mtime - STALE_S - 1
    os.utime(file, (seconds, seconds))
    (tmp_path / "throttling" / "2.json").write_text("[{")
    assert held_now(tmp_path, CLOCK.now()) == []


def test_a_home_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "throttling").write_text("in the way")
    StatusFile(tmp_path, 1).write([held("disk a of web")])
    StatusFile(tmp_path, 1).remove()
    assert held_now(tmp_path, CLOCK.now()) == []
