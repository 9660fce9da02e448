"""The doctor tells what holds transfers back, and which rule cannot."""

from holdfast.model.ids import RepositoryName
from holdfast.pipeline.throttle import Held
from holdfast.planning.throttling import Direction, Transfer
from tests.workers.cli.place import Place
from workers.cli.checks import Finding, Level
from workers.cli.invocation import Flags, Invocation
from workers.cli.throttling_checks import check_throttling
from workers.throttling_status import StatusFile

RULE = """
[[throttling]]
name = "office"
source = "10.1.0.0/16"
target = "10.2.0.0/16"
limit = 12582912
"""
NETWORK = """
[mover]
ca_file = "ca.pem"
certificate = "c.pem"
key = "c.key"
"""


def findings(place: Place, more: str = "", repository: str = "") -> list[Finding]:
    text = place.config.read_text()
    text = text.replace('path = "repository"\n', f'path = "repository"\n{repository}\n')
    place.config.write_text(text + more)
    return list(check_throttling(Invocation(Flags(config=place.config))))


def test_without_limits_there_is_nothing_to_say(place: Place) -> None:
    assert findings(place) == []


def test_limits_of_a_repository_are_told(place: Place) -> None:
    (finding,) = findings(place, repository="read_limit = 8388608\nwrite_limit = 1048576")
    assert (finding.check, finding.level) == ("limits main", Level.OK)
    assert finding.text == "reads 8.0 MiB/s, writes 1.0 MiB/s"


def test_a_rule_is_told_with_its_hours_and_whether_they_last(place: Place) -> None:
    mover = 'mover = "10.2.0.5:9440"'
    day = "00:00-24:00"
    every = 'days = ["mon", "tue", "wed", "thu", "fri", "sat"]\ntimezone = "Europe/Zurich"'
    other = RULE.replace("office", "sunday") + 'days = ["sun"]\ntimezone = "Europe/Zurich"\nrestores = true'
    always, week, sunday = findings(
        place, RULE.replace("office", "wan") + RULE + every + other + NETWORK, repository=mover
    )
    between = "12 MiB/s between 10.1.0.0/16 and 10.2.0.0/16"
    assert (always.check, always.text) == ("throttling wan", f"backups {between}, always")
    ends = [
        week.text.removeprefix(f"backups {between}, mon, tue, wed, thu, fri, sat {day} Europe/Zurich, "),
        sunday.text.removeprefix(f"backups and restores {between}, sun {day} Europe/Zurich, "),
    ]
    assert sorted(ends) == ["in force now", "not now"]
    assert {finding.level for finding in (always, week, sunday)} == {Level.OK}


def test_rules_without_a_network_are_a_warning(place: Place) -> None:
    (finding,) = findings(place, RULE)
    assert finding.level is Level.WARN
    assert finding.text.endswith("and no repository has a mover that other hosts reach")
    assert "write_limit" in finding.hint


def test_those_who_are_held_now_stand_behind_their_limit(place: Place) -> None:
    limits = {"wan": "throttling rule wan", "main": "write limit of repository main"}
    held = [
        Held(
            transfer=Transfer(repository=RepositoryName("main"), direction=Direction.WRITE, label=f"disk {name}"),
            rate_bytes_s=1 << 20,
            because=because,
            passed_bytes=0,
        )
        for name, because in limits.items()
    ]
    status = StatusFile(place.settings.home, 1)
    place.settings.home.mkdir(exist_ok=True)
    status.write(held)
    own, rule = findings(place, RULE.replace("office", "wan"), repository="write_limit = 2097152")
    assert own.text == "writes 2.0 MiB/s; now disk main at 1.0 MiB/s"
    assert rule.text.endswith("always; now disk wan at 1.0 MiB/s")
