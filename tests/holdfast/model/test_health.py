"""Reports of scrubs and repairs say whether anything is left."""

import msgspec

from holdfast.model.health import RepairReport, ScrubReport
from holdfast.model.ids import DiskKey
from holdfast.model.points import Damage

DAMAGE = Damage(chain="c", point=1, machine="web", disk=DiskKey("d"), offset=0, length=0, file="f", reason="bad")


def test_a_scrub_is_done_when_its_share_is_read() -> None:
    assert ScrubReport().is_done
    assert not ScrubReport(planned_bytes=2, done_bytes=1).is_done
    assert ScrubReport(planned_bytes=2, done_bytes=3).is_done


def test_reports_are_good_without_damage() -> None:
    for report in (ScrubReport(), RepairReport()):
        assert report.is_good
        assert not msgspec.structs.replace(report, damages=(DAMAGE,)).is_good
        assert not msgspec.structs.replace(report, unnamed_damages=1).is_good
