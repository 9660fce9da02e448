"""What the configuration says of movers: how long one that is away is waited for, and how many connections it gets."""

from pathlib import Path

import pytest

from holdfast.errors import ConfigurationInvalid
from tests.workers.test_config import BASE, load
from workers.mover_settings import PATIENCE_MAX_S, PATIENCE_MIN_S, check_connections, check_patience


@pytest.mark.parametrize("seconds", [PATIENCE_MIN_S, 120, PATIENCE_MAX_S])
def test_a_patience_between_a_restart_and_that_of_a_line_is_taken(seconds: int) -> None:
    check_patience("vault", seconds)


@pytest.mark.parametrize("seconds", [0, PATIENCE_MIN_S - 1, PATIENCE_MAX_S + 1])
def test_a_repository_with_another_patience_is_refused(tmp_path: Path, seconds: int) -> None:
    mover = f'name = "main"\nmover = "127.0.0.1:9440"\nmover_patience = {seconds}'
    with pytest.raises(ConfigurationInvalid, match=f"mover_patience of repository main is {seconds}"):
        load(tmp_path, BASE.replace('name = "main"', mover))


@pytest.mark.parametrize("count", [1, 5, 100])
def test_as_many_connections_as_a_mover_takes_may_be_had(count: int) -> None:
    check_connections("vault", count)


@pytest.mark.parametrize("count", [-1, 0, 101])
def test_a_repository_with_another_number_of_connections_is_refused(tmp_path: Path, count: int) -> None:
    mover = f'name = "main"\nmover = "127.0.0.1:9440"\nmover_connections = {count}'
    with pytest.raises(ConfigurationInvalid, match=f"mover_connections of repository main is {count}"):
        load(tmp_path, BASE.replace('name = "main"', mover))
