"""Why a lab ended by itself is told by the test that had it."""

from tests.lab.vcenter.running import fatal_error

SERVED = "2026/11/22 10:00:00.000000 ready\n2026/11/22 10:00:01.000000 CloneVM_Task: a panic: that was caught\n"
ENDED = "fatal error: concurrent map writes\n\ngoroutine 8 [running]:\nmain.main()\n"


def test_the_reason_and_the_stacks_behind_it_are_found() -> None:
    assert fatal_error(SERVED + ENDED) == ENDED.rstrip()
    assert fatal_error(SERVED + "panic: no lock\n" + "goroutine\n" * 1000).count("\n") == 39


def test_a_lab_that_serves_or_was_stopped_has_none() -> None:
    assert fatal_error("") == fatal_error(SERVED) == ""
