"""A self-test tells well, worrying and broken apart."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from holdfast.errors import AccessDenied, DiskReadFailed
from holdfast.model.plan import TransportMode
from holdfast.model.spans import Span
from holdfast.providers.vsphere.privileges import LEAST_ROLE, Missing
from holdfast.providers.vsphere.self_test import (
    MachineFacts,
    Reading,
    Verdict,
    judge_clocks,
    judge_inventory,
    judge_privileges,
    judge_product,
    judge_readings,
    named,
    sample_of,
    summary_of,
)

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
MIB = 1 << 20


@pytest.mark.parametrize(
    "version, verdict",
    [("7.0.3.0", "ok"), ("8.0.3.0", "ok"), ("9.0", "ok"), ("6.7", "warning"), ("10.0", "warning"), ("dev", "warning")],
)
def test_versions_that_are_not_known_are_a_warning(version: str, verdict: str) -> None:
    assert judge_product("VMware vCenter Server", version).verdict == verdict


@pytest.mark.parametrize(
    "skew_s, verdict, word",
    [(0, "ok", "0.0 s"), (59.9, "ok", "59.9 s"), (-59, "ok", "59.0 s"), (60, "warning", "60 s ahead of"),
     (-3600, "warning", "3600 s behind")],
)  # fmt: skip
def test_clocks_a_minute_apart_are_a_warning(skew_s: float, verdict: str, word: str) -> None:
    finding = judge_clocks(NOON + timedelta(seconds=skew_s), NOON)
    assert finding.verdict == verdict
    assert word in finding.text


def lacking(name: str, on: int, asked: int) -> Missing:
    line = next(one for one in LEAST_ROLE if one.name == name)
    return Missing(privilege=line, on=tuple(f"m{n}" for n in range(on)), asked=asked)


def test_only_what_no_backup_can_do_without_is_a_failure() -> None:
    freeze, create = "VirtualMachine.State.CreateSnapshot", "VirtualMachine.Inventory.Create"
    backup, *others = judge_privileges([lacking(freeze, 2, 2), lacking(create, 1, 1)])
    assert (backup.verdict, backup.code) == (Verdict.FAILED, AccessDenied.code)
    assert backup.text == f"missing: {freeze} on every machine"
    [restore] = [one for one in others if one.verdict is not Verdict.OK]
    assert restore.verdict is Verdict.WARNING
    assert restore.text == f"missing: {create} on every machine folder"
    assert restore.hint.startswith("Needed for restore to a new machine only.")
    partly, *_ = judge_privileges([lacking(freeze, 7, 9)])
    assert partly.verdict is Verdict.WARNING
    assert partly.text == f"missing: {freeze} on 7 of 9 machines (m0, m1, m2, m3, m4 and 2 more)"


def test_machines_are_counted_and_what_stands_in_their_way_is_named() -> None:
    found = {
        finding.check: finding
        for finding in judge_inventory(
            [
                MachineFacts(name="web", disks=2),
                MachineFacts(name="golden", is_template=True, can_track=False),
                MachineFacts(name="away", has_configuration=False, can_track=False),
                MachineFacts(name="raw", skipped=("it is a raw device",)),
                MachineFacts(name="db", disks=1, skipped=("it is shared",)),
                MachineFacts(name="old", disks=1, can_track=False),
                MachineFacts(name="diskless"),
            ]
        )
    }
    assert found["machines"].text == "7 seen, 4 can be protected"
    assert found["templates"].text == "1 template, which cannot be frozen: golden"
    assert found["templates"].verdict is Verdict.OK
    assert found["no disk protected"].text.endswith(": raw")
    assert found["disks left out"].text.endswith(": db")
    assert found["no change tracking"].text.endswith(": old")
    assert found["machines away"].verdict is Verdict.WARNING


def test_an_account_that_sees_no_machine_is_a_warning() -> None:
    [finding] = judge_inventory([])
    assert finding.verdict is Verdict.WARNING


def test_a_sample_is_the_first_allocated_bytes_else_the_beginning() -> None:
    spans = [Span(0, 10), Span(50, 30), Span(90, 10)]
    assert sample_of(spans, 100, 1000) == tuple(spans)
    assert sample_of(spans, 100, 25) == (Span(0, 10), Span(50, 15))
    assert sample_of(spans, 100, 10) == (Span(0, 10),)
    assert sample_of([], 100, 1000) == (Span(0, 100),)
    assert sample_of([], 100, 25) == (Span(0, 25),)


DIRECT = Reading(disk="2000", mode=TransportMode.DIRECT, read_bytes=64 * MIB, duration_s=0.5, digest="a")
HTTPS = msgspec.structs.replace(DIRECT, mode=TransportMode.HTTPS, duration_s=2.0)
BROKEN = Reading(disk="2000", mode=TransportMode.NETWORK, problem="no nbdkit")


def test_rates_are_measured_and_ways_compared() -> None:
    first, second, compared = judge_readings([DIRECT, HTTPS])
    assert (first.text, second.text) == ("64.0 MiB in 0.50 s, 128 MiB/s", "64.0 MiB in 2.00 s, 32 MiB/s")
    assert (compared.verdict, compared.text) == (Verdict.OK, "direct and https give the same bytes")
    assert msgspec.structs.replace(DIRECT, duration_s=0.0).rate_mib_s == 0


def test_a_way_that_fails_is_a_warning_while_another_works() -> None:
    working, broken = judge_readings([DIRECT, BROKEN])
    assert (working.verdict, broken.verdict) == (Verdict.OK, Verdict.WARNING)
    [alone] = judge_readings([BROKEN])
    assert (alone.verdict, alone.code) == (Verdict.FAILED, DiskReadFailed.code)


def test_ways_that_differ_are_a_failure() -> None:
    *_, compared = judge_readings([DIRECT, msgspec.structs.replace(HTTPS, digest="b")])
    assert compared.verdict is Verdict.FAILED
    assert compared.exit_status == DiskReadFailed.exit_status


def test_the_middle_rate_of_each_way_sums_up() -> None:
    found = list(summary_of([DIRECT, msgspec.structs.replace(DIRECT, duration_s=1.0), HTTPS, BROKEN]))
    assert [(one.check, one.text) for one in found] == [
        ("rate over direct", "96 MiB/s, the middle of 2 disks"),
        ("rate over https", "32 MiB/s, the middle of 1 disk"),
    ]


def test_long_lists_of_names_are_cut() -> None:
    assert named(["a", "b"]) == "a, b"
    assert named(["a", "b", "c"], 2) == "a, b and 1 more"
