"""Five fields are a time; anything else is refused with what to write."""

import asyncio
from collections.abc import Sequence

import pytest
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleRange,
    ScheduleSpec,
    ScheduleState,
)
from temporalio.service import RPCError

from holdfast.errors import ConfigurationInvalid, RequestInvalid
from holdfast.planning.cron import CronTimes, parse_cron
from workers.cron import check_cron, longest_gap_days
from workers.devserver import DevServerAddress


@pytest.mark.parametrize("text", [None, "0 22 * * *", "*/5 0-6 1,15 JAN MON-FRI"])
def test_five_fields_or_none_are_fine(text: str | None) -> None:
    check_cron("schedule", text)


@pytest.mark.parametrize("text", ["", "daily", "0 22 * *", "0 22 * * * *", "0 22 * * ;", "0 24 * * *", "0 3 x * *"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationInvalid, match="sweep of provider vc is") as caught:
        check_cron("sweep of provider vc", text)
    assert "five fields" in caught.value.hint


@pytest.mark.parametrize(
    "text, days",
    [
        ("0 3 * * *", 1),
        ("0 3 * * 0", 7),
        ("0 3 * * 7", 7),
        ("0 3 * * mon,thu", 4),
        ("0 3 * * MON-FRI", 3),
        ("0 3 1 * *", 31),
        ("0 3 */10 * *", 10),
        ("0 3 5/10 * *", 11),
        ("0 3 1 jan *", 365),
        ("0 3 30 feb *", 31),
    ],
)
def test_the_longest_gap_between_two_runs(text: str, days: int) -> None:
    assert longest_gap_days(text) == days


@pytest.mark.temporal
def test_fields_are_read_as_the_server_reads_them(dev_server: DevServerAddress) -> None:
    texts = [
        "*/20 22-23 * * *",
        "7/25 8-18/5,1 1,15-17 jan,NOV-december *",
        "0 0 31 sept/3 0",
        "5 3 */10 * 5-7",
        "0 0 * * */2",
        "0 0 1-7 2 */7",
        "0 0 * * mo-Fri",
        "0 0 * * Saturday,su",
    ]
    assert asyncio.run(read_by(dev_server, texts)) == {text: parse_cron(text) for text in texts}


@pytest.mark.temporal
def test_what_the_server_refuses_is_refused_before(dev_server: DevServerAddress) -> None:
    texts = ["60 0 * * *", "0 24 * * *", "0 0 0 * *", "0 0 * ja *", "0 0 * * 8", "0 0 * * s", "0 0 * * sat-sun"]
    texts += ["5-3 0 * * *", "1/0 0 * * *", "1/ 0 * * *", "*-5 0 * * *", "1, 0 * * *", "1/-1 0 * * *", "0 0 * * x"]
    assert asyncio.run(read_by(dev_server, texts)) == dict.fromkeys(texts)
    for text in texts:
        with pytest.raises(RequestInvalid):
            parse_cron(text)


async def read_by(server: DevServerAddress, texts: Sequence[str]) -> dict[str, CronTimes | None]:
    """Return what a server makes of cron fields; None where it refuses them."""
    client = await Client.connect(server.grpc)
    return {text: await _read_by(client, text) for text in texts}


async def _read_by(client: Client, text: str) -> CronTimes | None:
    schedule = Schedule(
        action=ScheduleActionStartWorkflow("Nobody", id="cron-read", task_queue="nobody"),
        spec=ScheduleSpec(cron_expressions=[text]),
        state=ScheduleState(paused=True),
    )
    try:
        handle = await client.create_schedule("cron-read", schedule)
    except RPCError:
        return None
    (found,) = (await handle.describe()).schedule.spec.calendars
    await handle.delete()
    return CronTimes(
        minutes=_numbers(found.minute),
        hours=_numbers(found.hour),
        days=_numbers(found.day_of_month),
        months=_numbers(found.month),
        weekdays=frozenset((number - 1) % 7 for number in _numbers(found.day_of_week)),
    )


def _numbers(ranges: Sequence[ScheduleRange]) -> frozenset[int]:
    return frozenset(number for one in ranges for number in range(one.start, one.end + 1, one.step))
