"""What is said of restore points, and when a verification counts as good."""

import msgspec
import pytest

from holdfast.model.ids import DiskKey
from holdfast.model.points import (
    CHAINS_NAMED_MAX,
    ChainRead,
    Damage,
    DiskAccess,
    MoverAccess,
    OpenPoint,
    VerifyReport,
    chains_named,
)

DAMAGE = Damage(
    chain="000001-aa", point=2, machine="web", disk=DiskKey("d0"), offset=0, length=65536, file="f", reason="flipped"
)


@pytest.mark.parametrize(
    "report, is_good",
    [
        (VerifyReport(), True),
        (VerifyReport(points=3, units=9, stored_bytes=1), True),
        (VerifyReport(damages=(DAMAGE,)), False),
        (VerifyReport(unnamed_damages=1), False),
        (VerifyReport(damages=(DAMAGE,), unnamed_damages=1), False),
    ],
)
def test_a_verification_is_good_when_nothing_is_damaged(report: VerifyReport, is_good: bool) -> None:
    assert report.is_good is is_good


def test_a_report_survives_a_journey_as_json() -> None:
    report = VerifyReport(points=1, units=2, stored_bytes=3, damages=(DAMAGE,), unnamed_damages=4)
    assert msgspec.json.decode(msgspec.json.encode(report), type=VerifyReport) == report


def test_a_point_begun_by_an_earlier_version_is_still_read() -> None:
    recorded = (
        b'{"chain":"machines/web-12345678/000001-aa","file":"00000001-full.hfc","number":1,'
        b'"point_id":"0123456789abcdef0123456789abcdef","kind":"full","parent_number":null,"reason":"first"}'
    )
    point = msgspec.json.decode(recorded, type=OpenPoint)
    assert (point.number, point.parent_number, point.removed) == (1, None, ())


def test_access_is_given_disk_by_disk() -> None:
    access = DiskAccess(disk=DiskKey("d0"), grant="{}", token="00")
    mover = MoverAccess(address="127.0.0.1:7420", has_tls=False, disks=(access,))
    assert mover.disk(DiskKey("d0")) is access
    assert mover.disk(DiskKey("d1")) is None


def test_the_code_of_a_damage_stands_behind_its_reason() -> None:
    assert DAMAGE.words == "flipped"
    assert msgspec.structs.replace(DAMAGE, code="passphrase-wrong").words == "flipped (passphrase-wrong)"


def test_of_many_chains_those_with_damage_are_named() -> None:
    sound = [ChainRead(chain=f"{number:06}") for number in range(CHAINS_NAMED_MAX)]
    damaged = ChainRead(chain="damaged", damages=2)
    assert chains_named([*sound, damaged]) == (damaged, *sound[:-1])
