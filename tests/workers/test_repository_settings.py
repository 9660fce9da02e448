"""What the configuration says of repositories: what cannot be meant is refused by name."""

from pathlib import Path

import pytest

from holdfast.errors import ConfigurationInvalid
from tests.workers.test_config import BASE, load


def test_a_repository_has_a_limit_and_proxies_that_are_close_to_it(tmp_path: Path) -> None:
    assert load(tmp_path, BASE).repository("main").tasks == 4
    text = BASE.replace('name = "main"', 'name = "main"\ntasks = 9\nproxies = ["proxy-1"]')
    found = load(tmp_path, text).repository("main")
    assert (found.tasks, found.proxies) == (9, ("proxy-1",))
    with pytest.raises(ConfigurationInvalid, match="repository main: the configuration has no proxy near"):
        load(tmp_path, text.replace('"proxy-1"]', '"near"]'))
    with pytest.raises(ConfigurationInvalid, match="tasks of repository main is 65"):
        load(tmp_path, text.replace("tasks = 9", "tasks = 65"))


@pytest.mark.parametrize("days", [0, 3651])
def test_a_clock_that_may_never_or_always_be_ahead_is_refused(tmp_path: Path, days: int) -> None:
    with pytest.raises(ConfigurationInvalid, match=f"clock_days of repository main is {days}"):
        load(tmp_path, BASE.replace('name = "main"', f'name = "main"\nclock_days = {days}'))


@pytest.mark.parametrize(
    "copies, told",
    [
        ('["main"]', "repository main is named as its own copy"),
        ('["other"]', "repository main: the configuration has no"),
    ],
)
def test_a_copy_is_another_repository_that_is_there(tmp_path: Path, copies: str, told: str) -> None:
    with pytest.raises(ConfigurationInvalid, match=told):
        load(tmp_path, BASE.replace('name = "main"', f'name = "main"\ncopies = {copies}'))
