"""Findings are shown as lines and as a document, and the first failure ends the command."""

import pytest

from holdfast.errors import AccessDenied, DiskReadFailed
from tests.workers.cli.place import Place
from workers.cli.checks import fail, ok, warn
from workers.cli.diagnosis import conclude
from workers.cli.failure import CommandFailed
from workers.cli.invocation import Flags, Invocation


def test_warnings_end_well(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    conclude(Invocation(Flags(config=place.config)), [ok("a", "fine"), warn("b", "so [so]", "Look.")])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["ok", "a", "fine"],
        ["warn", "b", "so", "[so]"],
        ["Look."],
    ]


def test_the_first_failure_decides(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    findings = [ok("a", "fine"), fail("b", AccessDenied("no")), fail("c", DiskReadFailed("broken"))]
    with pytest.raises(CommandFailed) as caught:
        conclude(Invocation(Flags(config=place.config)), findings)
    assert isinstance(caught.value.error, AccessDenied)
    assert caught.value.error.message == "b: no"
    assert "fail  c  broken" in capsys.readouterr().out
