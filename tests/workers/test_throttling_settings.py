"""Throttling rules of the configuration: what they mean, and what is wrong with them."""

from pathlib import Path

import pytest

from holdfast.errors import ConfigurationInvalid
from holdfast.planning.throttling import AddressRange, Hours, Rule
from tests.workers.test_config import BASE, load
from workers.throttling_settings import LIMIT_MIN, ThrottlingSettings, rules_of

RULE = """
[[throttling]]
name = "office"
source = "10.1.0.0/16"
target = "10.2.0.5-10.2.0.9"
limit = 12500000
"""


def test_a_rule_is_read_with_its_hours(tmp_path: Path) -> None:
    text = 'days = ["mon", "fri"]\nhours = "8:00-18:30"\ntimezone = "Europe/Zurich"\nrestores = true'
    settings = load(tmp_path, BASE + RULE + text)
    [rule] = rules_of(settings.throttling)
    assert isinstance(rule.hours, Hours)
    assert (rule.hours.days, rule.hours.start, rule.hours.end) == (frozenset({0, 4}), 480, 1110)
    assert str(rule.hours.zone) == "Europe/Zurich"
    assert rule == Rule(
        name="office",
        source=AddressRange.parse("10.1.0.0/16"),
        target=AddressRange.parse("10.2.0.5-10.2.0.9"),
        limit_bytes_s=12_500_000,
        hours=rule.hours,
        holds_restores=True,
    )


def test_a_rule_always_holds_unless_it_says_when(tmp_path: Path) -> None:
    [rule] = rules_of(load(tmp_path, BASE + RULE).throttling)
    assert rule.hours is None
    assert not rule.holds_restores
    [night] = rules_of(load(tmp_path, BASE + RULE + 'hours = "22:00-06:00"').throttling)
    assert night.hours is not None
    assert len(night.hours.days) == 7


@pytest.mark.parametrize(
    "wrong, complaint",
    [
        ('hours = "8-18"', r"hours of throttling rule office are '8-18'"),
        ('hours = "08:00-25:00"', r"hours of throttling rule office are '08:00-25:00'"),
        ('hours = "24:00-08:00"', r"hours of throttling rule office are '24:00-08:00'"),
        ('hours = "08:60-18:00"', r"hours of throttling rule office are '08:60-18:00'"),
        ('hours = "08:00-08:00"', r"hours of throttling rule office are '08:00-08:00'"),
        ("days = []", r"days of throttling rule office are none"),
        ('days = ["monday"]', r"invalid enum value 'monday' at throttling\[0\].days\[0\] \(office\)"),
        ('timezone = "Zurich"', r"throttling rule office: no time zone 'Zurich'"),
        ("rate = 1", r"unknown key 'rate' at throttling\[0\] \(office\)"),
        ("limit = 0", r"limit of throttling rule office is 0"),
        (f"limit = {LIMIT_MIN - 1}", r"limit of throttling rule office is 65535"),
        ('source = "web01"', r"source of throttling rule office is no range of addresses: .*'web01'"),
        ('target = "10.0.0.1/8"', r"target of throttling rule office is no range of addresses: .*host bits set"),
    ],
)
def test_what_is_wrong_with_a_rule_is_said_with_its_name(tmp_path: Path, wrong: str, complaint: str) -> None:
    key = wrong.split(" ", 1)[0]
    lines = [line for line in RULE.splitlines() if not line.startswith(f"{key} =")]
    with pytest.raises(ConfigurationInvalid, match=complaint):
        load(tmp_path, BASE + "\n".join(lines) + f"\n{wrong}\n")


def test_two_rules_have_two_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match="two throttling rule tables are called office"):
        load(tmp_path, BASE + RULE + RULE)


@pytest.mark.parametrize("key", ["read_limit", "write_limit"])
def test_limits_of_a_repository_are_bytes_per_second(tmp_path: Path, key: str) -> None:
    named = '[[repositories]]\nname = "vault"\npath = "vault"\n'
    assert getattr(load(tmp_path, f"{BASE}{named}{key} = 65536").repository("vault"), key) == 65536
    assert getattr(load(tmp_path, f"{BASE}{named}{key} = 0").repository("vault"), key) == 0
    for limit in (-1, 8, 65535):
        with pytest.raises(ConfigurationInvalid, match=f"{key} of repository vault is {limit}") as caught:
            load(tmp_path, f"{BASE}{named}{key} = {limit}")
        assert "bytes per second" in caught.value.hint


def test_a_table_may_be_made_without_a_file() -> None:
    made = ThrottlingSettings(name="wan", source="10.0.0.1", target="10.0.0.2", limit=LIMIT_MIN)
    assert [rule.name for rule in rules_of([made])] == ["wan"]
